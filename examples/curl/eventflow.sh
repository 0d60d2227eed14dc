#!/usr/bin/env bash
# EventFlow: a token, functions, an invocation, logs. The server must give development tokens, as the embedded default does.
source "$(dirname "$0")/common.sh"
name="web-server-$RANDOM"

call 200 POST /auth/token -d '{ "user_id": "alice", "username": "Alice", "email": "alice@company.com" }'
token=$(json token <<<"$BODY")
auth=(-H "Authorization: Bearer $token")

call 201 POST /v1/functions "${auth[@]}" -d "{
  \"name\": \"$name\", \"image\": \"nginx:alpine\", \"replicas\": 2, \"command\": [\"nginx\", \"-g\", \"daemon off;\"],
  \"env\": { \"ENV\": \"production\", \"LOG_LEVEL\": \"info\" }
}"
call 409 POST /v1/functions "${auth[@]}" -d "{ \"name\": \"$name\", \"image\": \"nginx:alpine\" }"
call 200 GET /v1/functions "${auth[@]}"
call 200 GET "/v1/functions/$name" "${auth[@]}"
call 200 POST "/v1/functions/$name:invoke" "${auth[@]}" -d '{ "input": { "action": "process", "data": "test" } }'
has job_name
call 200 GET "/v1/functions/$name/logs?tail=50" "${auth[@]}"
call 204 DELETE "/v1/functions/$name" "${auth[@]}"
call 404 GET "/v1/functions/$name" "${auth[@]}"
call 401 GET /v1/functions
call 200 GET /healthz
call 200 GET /readyz
call 200 GET /metrics
