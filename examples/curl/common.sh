# Shared by the scripts: where the server is, one call, one look into an answer.
set -euo pipefail
BASE=${BASE:-http://127.0.0.1:8080}
DATA=${PULSEWIRE_DATA_DIR:-.pulsewire}

# json PATH: prints a field of the JSON on standard input, such as data.token.
json() { node -e 'const path = process.argv[1].split("."); let v = JSON.parse(require("fs").readFileSync(0, "utf8")); for (const p of path) v = v?.[p]; process.stdout.write(typeof v === "string" ? v : JSON.stringify(v) ?? "")' "$1"; }

demo() { json "$1" <"$DATA/demo.json"; }

# call STATUS METHOD PATH [curl options]: calls, shows the answer, and stops where the status is another.
call() {
  local expected=$1 method=$2 path=$3 status
  shift 3
  BODY=$(curl -sS -o - -w '\n%{http_code}' -X "$method" "$BASE$path" -H 'content-type: application/json' "$@")
  status=${BODY##*$'\n'}
  BODY=${BODY%$'\n'*}
  printf '%s %s → %s\n%s\n' "$method" "$path" "$status" "$BODY"
  [ "$status" = "$expected" ] || { echo "expected $expected" >&2; exit 1; }
}

# has TEXT: stops where the last answer does not hold the text.
has() { [[ $BODY == *"$1"* ]] || { echo "the answer lacks $1" >&2; exit 1; }; }
