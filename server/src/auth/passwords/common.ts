/** What passwords are commonly made of. Lower case, without digits and signs. */
const words = [
  ..."password passwort passwd pass pwd kennwort secret geheim admin administrator root user guest test demo".split(
    " ",
  ),
  ..."login welcome willkommen hello hallo letmein changeme change default master super manager system".split(
    " ",
  ),
  ..."server service account access internet computer company office temp temporary qwerty qwertz qwert".split(
    " ",
  ),
  ..."azerty asdf asdfgh zxcvbn iloveyou love lovely baby angel princess prince sunshine flower butterfly".split(
    " ",
  ),
  ..."dragon monkey tiger lion shadow killer ninja batman superman spiderman pokemon starwars matrix".split(
    " ",
  ),
  ..."football baseball basketball soccer hockey liverpool arsenal chelsea yankees lakers summer winter".split(
    " ",
  ),
  ..."spring autumn fall sommer herbst january february march april may june july august september".split(
    " ",
  ),
  ..."october november december monday tuesday wednesday thursday friday saturday sunday michael jennifer".split(
    " ",
  ),
  ..."jordan thomas daniel jessica charlie ashley andrew robert george maria anna money freedom whatever".split(
    " ",
  ),
  ..."trustno trustnoone cookie chocolate banana apple google facebook youtube samsung iphone android".split(
    " ",
  ),
  ..."pulsewire pulse my the is me you new one two three abc abcd xyz".split(" "),
];
const alternatives = [...words].sort((a, b) => b.length - a.length).join("|");
/** More words than that make a phrase that is not among the first that are tried. */
const onlyWords = new RegExp(`^(?:${alternatives}){1,3}$`);

/** Rows of keys and the alphabet: what a finger runs along. */
const rows = [
  "abcdefghijklmnopqrstuvwxyz",
  "01234567890123456789",
  "qwertyuiopasdfghjklzxcvbnm",
  "qwertzuiopasdfghjklyxcvbnm",
  "qazwsxedcrfvtgbyhnujmikolp",
  "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p",
  "1q2w3e4r5t6y7u8i9o0p",
  "!@#$%^&*()",
];
const runs = [...rows, ...rows.map((row) => [...row].reverse().join(""))];
const minDistinct = 5;
const minRun = 3;

const spelledWith: Record<string, string> = {
  "0": "o",
  "1": "i",
  "3": "e",
  "4": "a",
  "5": "s",
  "7": "t",
  "8": "b",
  "@": "a",
  $: "s",
  "!": "i",
};

/**
 * Whether a password of the allowed length is one of those that are tried first: few characters, one piece over and
 * over, runs along the keyboard, or common words with digits and signs (`Password1234!`, `W3lcome-2026`).
 */
export function isCommonPassword(password: string): boolean {
  const text = password.toLowerCase();
  if (new Set(text).size < minDistinct || isRepetition(text) || isRuns(text)) return true;
  const plain = text.replace(/[^a-z]/g, "");
  const spelled = text.replace(/[\d!@$]+$/, "").replace(/[0134578@$!]/g, (char) => spelledWith[char] ?? char);
  return [plain, spelled.replace(/[^a-z]/g, "")].some((letters) => onlyWords.test(letters));
}

function isRepetition(text: string): boolean {
  for (let length = 1; length <= text.length / 2; length++) {
    if (
      text
        .slice(0, length)
        .repeat(Math.ceil(text.length / length))
        .startsWith(text)
    )
      return true;
  }
  return false;
}

/** Whether the text is nothing but pieces of at least three characters of the rows. */
function isRuns(text: string): boolean {
  let rest = text;
  while (rest.length > 0) {
    let length = Math.min(rest.length, minRun);
    if (!runs.some((row) => row.includes(rest.slice(0, length)))) return false;
    while (length < rest.length && runs.some((row) => row.includes(rest.slice(0, length + 1)))) length++;
    rest = rest.slice(length);
  }
  return true;
}
