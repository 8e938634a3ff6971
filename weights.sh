#!/usr/bin/env bash
#
# weights.sh: download OpenAI's published GPT-2 weights, checked, to where nanogpt_np looks for them.
#
# For each model it fetches config.json and model.safetensors at one fixed revision. A file is
# downloaded under the name FILE.partial, its size and SHA-256 are compared with the tables below,
# and only then is it renamed to FILE: whatever stands under the final name is whole and verified.
# A broken download stays as FILE.partial and is resumed, by this run or by the next.
#
# Read it from the bottom: main, install_model, install_file, download, transfer, run_curl.
# It needs bash 3.2 (the one macOS has), curl, and sha256sum, shasum or openssl. Every failure that
# matters is checked where it can happen, with its own message; that is why there is no `set -e`.

# SHELLOPTS and POSIXLY_CORRECT in the environment could set the others. In the C locale a range such as
# [a-z] and the length of a text count bytes, and every tool prints what is expected here.
set -u +e +f +C +o posix +o pipefail
unset POSIXLY_CORRECT
export LC_ALL=C

# The pins, part one: model, parameters, Hugging Face repository, revision.
MODELS=(
  gpt2        124439808  openai-community/gpt2        607a30d783dfa663caf39e06633721c8d4cfcd7e
  gpt2-medium 354823168  openai-community/gpt2-medium 6dcaa7a952f72f9298047fd5137cd6e4f05f41da
  gpt2-large  774030080  openai-community/gpt2-large  32b71b12589c2f8d625668d2335a01cac3249519
  gpt2-xl     1557611200 openai-community/gpt2-xl     15ea56dee5df4983c59b2538573817e1667135e2
  distilgpt2  81912576   distilbert/distilgpt2        2290a62682d06624634c1f46a6ad5be0f47f38aa
)

# The pins, part two: model, file, SHA-256, bytes (- where no source publishes the size).
FILES=(
  gpt2        config.json       0daed7749b4f02b8f76240d5444551d7b08712dab4d0adb8239c56ba823bb7b4 665
  gpt2        model.safetensors 248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707 548105171
  gpt2-medium config.json       ef1a44d889ad1a0acc7731c78134f1b87d2d222f110e97dd10fd4117331caf22 718
  gpt2-medium model.safetensors fc5a354a19255ad494f3d71549390baca1ccf61d1d822b9408971705c687c9cd 1519984962
  gpt2-large  config.json       7fccdcfd6622055342a734c663ee0b61ff4fd697f42467595df0bf4448c8c170 -
  gpt2-large  model.safetensors 5f47f3e12f91cd33b662ce7e433b6150ad5512b5884a2cee961b50e9c3bbebce -
  gpt2-xl     config.json       be48115d52314bc27327e160bf10197760db02ea689d10adb24db4102edf7a8a -
  gpt2-xl     model.safetensors 0f8b28eb05a8075f48b61b6f35332978c74fc7763fa9fb4051a1c30511736a6a -
  distilgpt2  config.json       4ec5947c1d59fee6212cdf3b0ec1a53eac02092554c5ff0a733488cbd2c64f3a 762
  distilgpt2  model.safetensors e1ff18884359fe8beb795a5f414feb85a6ce3d929ad019c0d958c039d2b94a1b 352824413
)

ATTEMPTS=5       # in a row that bring next to nothing; any progress starts the count again
SLOWEST=1000     # bytes a second: less than this is no progress
STALL_SECONDS=60 # that are slower count as a broken connection

PROXIES=(http_proxy https_proxy HTTPS_PROXY HTTP_PROXY all_proxy ALL_PROXY) # as curl reads them
NO_HOME='neither NANOGPT_NP_HOME nor HOME says where to put the weights'
WEB_PAGE='a web page; does this network ask you to log in?'

usage() {
  local shown_home
  printable "${home:-(set NANOGPT_NP_HOME)}"
  shown_home=$printed
  cat <<END
usage: ./weights.sh [MODEL ...]     download (default: gpt2), or say that it is already there
       ./weights.sh --list          the models, their sizes, and which are there
       ./weights.sh --pins          what is downloaded, for scripts: a line per file with
                                    MODEL REPO REVISION FILE SHA256 BYTES (- when unknown)
       ./weights.sh --help

Models: $(model_names)
Folder: $shown_home/MODEL

A broken or stopped download is resumed by running the same command again. Nothing appears under
its final name before its size and SHA-256 are right, and nothing that is there is downloaded again.
--list says "partial" for a download to be resumed, and "unchecked" for files that stand under the
final names with no record of a check: ./weights.sh MODEL checks them.

Environment:
  NANOGPT_NP_HOME  the folder that holds the models (default: nanogpt_np in the user's cache folder)
  HF_ENDPOINT      a mirror to use instead of https://huggingface.co
  HF_TOKEN         a Hugging Face token; these models are public and need none

Exit status: 0 fine, 1 failed, 2 wrong usage, 130 stopped with Ctrl-C.
END
}

# ---- Small helpers -------------------------------------------------------------------------------

# Sets `printed` to $1 on one line and with nothing in it that steers a terminal: control characters,
# invisible and bidirectional ones, and bytes that are not UTF-8 become \xNN. Of more than $2 bytes
# (default 2000) the middle is left out.
printable() {
  local rest=$1 max=${2:-2000} half char code
  if [ "${#rest}" -gt "$max" ]; then
    half=$((max / 2))
    rest="${rest:0:half}...($((${#rest} - 2 * half)) bytes)...${rest:${#rest}-half}"
  fi
  printed=$rest
  case $rest in *[!\ -~]*) ;; *) return ;; esac
  printed=''
  while [ -n "$rest" ]; do
    case $rest in
      [\ -~]*) char=${rest:0:1} ;;
      [$'\302'-$'\337'][$'\200'-$'\277']*) char=${rest:0:2} ;;
      $'\340'[$'\200'-$'\237']* | $'\355'[$'\240'-$'\277']* | $'\360'[$'\200'-$'\217']*) char='' ;; # not UTF-8
      [$'\340'-$'\357'][$'\200'-$'\277'][$'\200'-$'\277']*) char=${rest:0:3} ;;
      [$'\360'-$'\364'][$'\200'-$'\277'][$'\200'-$'\277'][$'\200'-$'\277']*) char=${rest:0:4} ;;
      *) char='' ;;
    esac
    case $char in # U+0080-9F, 00AD, 061C, 200B-200F, 2028-202E, 2060-206F, FEFF, E0000-E0FFF
      $'\302'[$'\200'-$'\237'] | $'\302\255' | $'\330\234') char='' ;;
      $'\342\200'[$'\213'-$'\217'] | $'\342\200'[$'\250'-$'\256'] | $'\342\201'[$'\240'-$'\257']) char='' ;;
      $'\357\273\277' | $'\363\240'*) char='' ;;
    esac
    if [ -z "$char" ]; then
      printf -v code '%d' "'${rest:0:1}"
      printf -v code '\\x%02x' $((code & 255))
      printed=$printed$code
      rest=${rest:1}
    else
      printed=$printed$char
      rest=${rest:${#char}}
    fi
  done
}

redact() { # sets redacted to $1 without the token and the passwords
  local login
  redacted=$1
  if [ "${#token}" -ge 8 ]; then redacted=${redacted//"$token"/***}; fi
  for login in ${logins[@]+"${logins[@]}"}; do redacted=${redacted//"$login"/***@}; done
}

# Every message goes through here, whoever chose the words in it: printable, and without a password.
say() {
  redact "$*"
  printable "$redacted"
  printf '%s\n' "$printed" >&2
}

die() {
  say "weights.sh: $*"
  exit 1
}

wrong_usage() {
  say "weights.sh: $*"
  exit 2
}

# Sleep in a way that a signal can interrupt at once (bash runs no trap while a child is in front).
nap() {
  sleep "$1" &
  child=$!
  wait "$child"
  child=''
}

size_of() { # bytes of file $1; 0 when there is none, or none that may be read
  if [ -f "$1" ] && [ -r "$1" ]; then
    echo $(($(wc -c <"$1"))) # the arithmetic drops the blanks that macOS's wc prints
  else
    echo 0
  fi
}

human() { # 548105171 -> 548.1 MB (decimal units, as on Hugging Face's pages)
  local n=$1
  if [ "$n" = - ]; then
    echo '?'
  elif [ "$n" -ge 1000000000 ]; then
    printf '%d.%02d GB\n' $((n / 1000000000)) $((n / 10000000 % 100))
  elif [ "$n" -ge 1000000 ]; then
    printf '%d.%d MB\n' $((n / 1000000)) $((n / 100000 % 10))
  elif [ "$n" -ge 1000 ]; then
    printf '%d.%d kB\n' $((n / 1000)) $((n / 100 % 10))
  else
    echo "$n bytes"
  fi
}

# ---- Where things are ----------------------------------------------------------------------------

find_home() { # sets home; empty when nothing says where
  local users=~ cache # without HOME, bash asks the system
  if [ -z "${HOME+set}" ] && [ "$users" = / ]; then users=''; fi # the answer when the system knows of none
  home=${NANOGPT_NP_HOME:-}
  if [ -z "$home" ]; then
    case $(uname -s) in
      Darwin) home=${users:+$users/Library/Caches/nanogpt_np} ;;
      *)
        cache=${XDG_CACHE_HOME:-${users:+$users/.cache}}
        home=${cache:+$cache/nanogpt_np}
        ;;
    esac
  fi
  case $home in
    '' | /*) ;;
    *) home=${PWD:-.}/$home ;; # so that no path can be taken for an option
  esac
  while [[ $home == ?*/ ]]; do home=${home%/}; done
}

check_lengths() { # of what the environment says: bash takes minutes over some 100,000 bytes
  local name value
  for name in NANOGPT_NP_HOME HOME XDG_CACHE_HOME HF_TOKEN HF_ENDPOINT "${PROXIES[@]}"; do
    value=${!name:-}
    [ "${#value}" -le 4000 ] || die "$name has ${#value} bytes; expected at most 4000"
  done
}

# What no message may show: in an address, what stands before the @. A password with a / in it ends the
# address too early for curl, which may then quote it in an error: so it is the last @ that counts.
find_secrets() { # sets token and logins
  local name value
  token=${HF_TOKEN:-}
  token=${token//[[:space:]]/}
  logins=()
  for name in HF_ENDPOINT "${PROXIES[@]}"; do
    value=${!name:-}
    case $value in
      *?@*)
        value=${value%@*}
        logins+=("${value#*://}@")
        ;;
    esac
  done
}

find_tools() { # sets sha256 and host
  local tool found
  for tool in curl cat df ls mkdir mv rm rmdir sleep tail tr uname wc; do
    command -v "$tool" >/dev/null || die "$tool is not installed, or not in PATH"
  done
  host=$(uname -n)
  for tool in sha256sum shasum openssl; do
    case $tool in
      sha256sum) sha256=(sha256sum) ;;
      shasum) sha256=(shasum -a 256) ;;
      openssl) sha256=(openssl dgst -sha256 -r) ;;
    esac
    found=$("${sha256[@]}" </dev/null 2>/dev/null) # of no bytes, to see that it works
    if [ "${found%% *}" = e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 ]; then return; fi
  done
  die 'none of sha256sum, shasum and openssl is installed (or works, or is in PATH)'
}

find_endpoint() { # sets endpoint and protocols
  endpoint=${HF_ENDPOINT:-https://huggingface.co}
  while [[ $endpoint == */ ]]; do endpoint=${endpoint%/}; done
  case $endpoint in
    *[[:space:][:cntrl:]\"\\?\#]*) die "HF_ENDPOINT is '$endpoint', with a character that no such address has" ;;
    https://?*) protocols='=https' ;; # redirects included
    http://?*) protocols='=http,https' ;;
    *) die "HF_ENDPOINT is '$endpoint'; expected something like https://huggingface.co" ;;
  esac
  case $token in
    *[!A-Za-z0-9._~+/=-]*) die 'HF_TOKEN holds a character that no token has' ;; # and that curl might misread
  esac
}

# ---- The pins ------------------------------------------------------------------------------------

model_names() { # all on one line
  local i names=''
  for ((i = 0; i < ${#MODELS[@]}; i += 4)); do names="$names ${MODELS[i]}"; done
  echo "${names# }"
}

find_model() { # sets model, parameters, repo, revision and folder; fails when $1 is no model
  local i
  for ((i = 0; i < ${#MODELS[@]}; i += 4)); do
    if [ "${MODELS[i]}" = "$1" ]; then
      model=$1
      parameters=${MODELS[i + 1]}
      repo=${MODELS[i + 2]}
      revision=${MODELS[i + 3]}
      folder=${home%/}/$model
      return 0
    fi
  done
  return 1
}

find_file() { # sets file, digest, bytes and cap (what it cannot be longer than) of the current model's file $1
  local i
  for ((i = 0; i < ${#FILES[@]}; i += 4)); do
    if [ "${FILES[i]}" = "$model" ] && [ "${FILES[i + 1]}" = "$1" ]; then
      file=$1
      digest=${FILES[i + 2]}
      bytes=${FILES[i + 3]}
      cap=$bytes
      if [ "$bytes" = - ]; then # 4 bytes a parameter, and the causal masks: at most a tenth more
        if [ "$file" = config.json ]; then cap=1000000; else cap=$((5 * parameters)); fi
      fi
      return 0
    fi
  done
  die "weights.sh has no pin for $1 of $model" # only an edit of the tables can lead here
}

nearest_model() { # the model that $1 was probably meant to be, or nothing
  local name wanted
  [ "${#1}" -le 100 ] || return
  wanted=$(printf '%s' "${1##*/}" | tr '[:upper:]' '[:lower:]' | tr -cd 'a-z0-9')
  [ -n "$wanted" ] || return
  for name in $(model_names); do # gpt2_medium, GPT-2-Medium, medium and med all mean gpt2-medium
    case ${name//-/} in
      *"$wanted"*)
        echo "$name"
        return
        ;;
    esac
  done
}

# ---- Is a file the published one? ----------------------------------------------------------------

# True when file $1 has the pinned size and SHA-256; else `problem` says how it differs. Sets `seen`, the
# identity of the bytes that were hashed.
matches() {
  local size found
  size=$(size_of "$1")
  seen=''
  if { [ -e "$1" ] || [ -L "$1" ]; } && [ ! -f "$1" ]; then
    problem='it is not a regular file'
  elif [ -f "$1" ] && [ ! -r "$1" ]; then
    problem='it cannot be read'
  elif [ "$size" -gt "$cap" ]; then
    problem="expected ${bytes/-/at most $cap} bytes, found more"
  elif [ "$bytes" != - ] && [ "$size" -ne "$bytes" ]; then
    problem="expected $bytes bytes, found $size"
  elif [ "$size" -eq 0 ]; then
    problem='it is empty'
  else
    [ "$file" = config.json ] || seen=$(identity "$1") # for the record, which config.json has none of
    found=$("${sha256[@]}" <"$1") || die "cannot compute the SHA-256 of $1"
    if [ "${found%% *}" = "$digest" ]; then return 0; fi
    problem="expected SHA-256 $digest, found ${found%% *}"
  fi
  return 1
}

# The size, times and inode of file $1, as the record has them: a file that was changed, replaced or copied
# differs in one of them, whatever date it was given. Nothing where stat does not print nanoseconds.
identity() {
  local line form='^# size=[0-9]+ mtime=[0-9]+[.][0-9]{9} inode=[0-9]+ ctime=[0-9]+[.][0-9]{9}$'
  line=$(stat -L -c '# size=%s mtime=%.9Y inode=%i ctime=%.9Z' "$1" 2>/dev/null) ||
    line=$(stat -L -f '# size=%z mtime=%Fm inode=%i ctime=%Fc' "$1" 2>/dev/null) # macOS, BSD
  if [[ $line =~ $form ]]; then printf '%s\n' "$line"; fi
}

# True when the current file is there and known to be good without reading it through. Half a gigabyte
# takes seconds to hash, so a good model.safetensors has a record beside it: the line that sha256sum
# prints, and the identity of the file. config.json is small: hash it each time.
is_good() {
  local path=$folder/$file line1='' line2=''
  if [ "$file" = config.json ]; then
    matches "$path"
  else
    [ -f "$path" ] && [ -f "$path.sha256" ] && [ -r "$path.sha256" ] &&
      [ "$(size_of "$path.sha256")" -lt 1000 ] &&
      { [ "$bytes" = - ] || [ "$(size_of "$path")" -eq "$bytes" ]; } &&
      { read -r line1 && read -r line2; } <"$path.sha256" &&
      [ "$line1" = "$digest  $file" ] && [ "$line2" = "$(identity "$path")" ]
  fi
}

write_record() { # nanogpt_np reads it to say which weights it runs, without hashing them again
  local record=$folder/$file.sha256 now
  [ ! -d "$record" ] || die "$record is a folder: delete it, then try again"
  check_ours "$record.partial"
  now=$(identity "$folder/$file")
  # The rename to the final name changed ctime. If anything else differs, these may not be the bytes that were hashed.
  if [ "${now% ctime=*}" != "${seen% ctime=*}" ]; then now=''; fi
  {
    printf '%s\n' "$digest  $file" ${now:+"$now"} >"$record.partial" && mv -f "$record.partial" "$record"
  } 2>/dev/null ||
    die "cannot write $record (disk full?); $file itself is there and good"
}

model_state() { # of the current model: yes, unchecked, partial or no
  local good=0 present=0 path
  for path in "$folder/config.json" "$folder/model.safetensors"; do
    find_file "${path##*/}"
    if is_good; then good=$((good + 1)); fi
    if [ -e "$path" ]; then present=$((present + 1)); fi
  done
  if [ "$good" -eq 2 ]; then
    echo yes
  elif [ "$present" -eq 2 ]; then
    echo unchecked
  elif [ "$present" -eq 1 ] || [ -s "$path.partial" ]; then
    echo partial
  else
    echo no
  fi
}

# ---- Whose files are these? ----------------------------------------------------------------------

# Others may be able to write where the models are (in /tmp, on a shared disk). Through a link that they
# plant, or into a file that has other names, the download would change something else.

owner_and_links() { # of $1 itself, not of what it links to: sets owner and links
  local line columns='^[^ ]+ +([0-9]+) +([0-9]+) '
  owner='' links=''
  line=$(ls -dn "$1" 2>/dev/null)
  if [[ $line =~ $columns ]]; then
    links=${BASH_REMATCH[1]}
    owner=${BASH_REMATCH[2]}
  fi
}

is_odd() { # whether $1 is there but is no plain file of our own; sets problem
  local owner links
  problem=''
  if [ -L "$1" ]; then
    problem='it is a symbolic link'
  elif [ -d "$1" ]; then
    problem='it is a folder'
  elif [ -e "$1" ]; then
    owner_and_links "$1"
    if [ ! -f "$1" ]; then
      problem='it is not a regular file'
    elif [ "$owner" != "$us" ]; then
      problem='it belongs to another user'
    elif [ "${links:-1}" -gt 1 ]; then
      problem='it has other names (hard links)'
    elif [ ! -r "$1" ] || [ ! -w "$1" ]; then
      problem='its mode forbids to read or write it'
    fi
  fi
  [ -n "$problem" ]
}

check_ours() { # each of the files that we are about to write
  local path
  for path; do
    if is_odd "$path"; then die "will not write to $path: $problem; delete it, then try again"; fi
  done
}

check_folders() { # a link to another disk is fine, but not one that somebody else made
  local path owner links
  for path in "$home" "$folder"; do
    [ -L "$path" ] || continue
    owner_and_links "$path"
    [ "$owner" = "$EUID" ] || [ "$owner" = 0 ] ||
      die "$path is a symbolic link of another user (uid $owner): set NANOGPT_NP_HOME to a folder of your own"
  done
}

# ---- One run at a time ---------------------------------------------------------------------------

# The file .lock holds "PID HOST" of the run that owns the folder, and of each curl it started: a curl
# may outlive a run that is killed with -9, and goes on writing. Whoever wants the lock looks and writes
# inside .lock.guard, a folder held for milliseconds (mkdir either makes it or fails: no two runs can
# both succeed). So two runs cannot take one dead run's lock both. A guard that stays was left by a run
# that was killed in those milliseconds.

lock_holder() { # describes the living process that holds the lock; nothing when it is free
  local pid there
  [ -f "$lock" ] && [ ! -L "$lock" ] || return
  while read -r pid there; do
    if [ "$there" != "$host" ]; then
      echo "process $pid on $there" # cannot be looked at from here: believe it
      return
    elif kill -0 "$pid" 2>/dev/null || ps -p "$pid" >/dev/null 2>&1; then # ps sees other users' too
      echo "process $pid"
      return
    fi
  done 2>/dev/null <"$lock"
}

take_lock() {
  local holder told='' failed=0 owner links
  lock=$folder/.lock
  while :; do
    trap '' INT TERM HUP # nothing may interrupt us while we hold the guard
    if mkdir "$lock.guard" 2>/dev/null; then
      owner_and_links "$lock.guard"
      us=$owner # not always $EUID: on shared and on foreign disks the files that we make may belong to somebody else
      holder=$(lock_holder)
      if [ -z "$holder" ] && ! is_odd "$lock"; then
        problem='disk full?'
        if { echo "$$ $host" >"$lock"; } 2>/dev/null; then locked=yes; fi
      fi
      rmdir "$lock.guard"
      set_traps
      [ -z "$locked" ] || return
      [ -n "$holder" ] || die "cannot write $lock ($problem): if it is there, delete it, then try again"
      [ "$holder" = "$told" ] ||
        say "waiting for another weights.sh ($holder) to finish with $model (if there is none, delete $lock)"
      told=$holder
      failed=0
    else
      set_traps
      failed=$((failed + 1))
      [ "$failed" -ne 10 ] || rmdir "$lock.guard" 2>/dev/null
      [ "$failed" -lt 15 ] || die "cannot make $lock.guard (disk full?); if it is there, delete it and try again"
    fi
    nap 1
  done
}

release_lock() {
  [ -z "$locked" ] || rm -f "$lock.log" "$lock.http" "$lock" # the lock last: then the next run begins
  locked=''
}

# ---- Ending --------------------------------------------------------------------------------------

set_traps() {
  trap 'stop 130' INT
  trap 'stop 143' TERM
  trap 'stop 129' HUP
  trap release_lock EXIT
}

stop() { # on a signal: $1 is the exit status
  trap '' INT TERM HUP
  if [ -n "$child" ]; then
    kill "$child" 2>/dev/null
    wait "$child" 2>/dev/null
  fi
  [ ! -t 2 ] || say '' # after the ^C, or the progress bar
  say "weights.sh: stopped$(what_is_kept)"
  exit "$1"
}

what_is_kept() { # the end of a message: says whether there is something to resume
  if [ -s "$partial" ]; then
    echo "; $(human "$(size_of "$partial")") of $file are kept: ./weights.sh $model resumes there"
  fi
}

# ---- Downloading ---------------------------------------------------------------------------------

# One request, from the end of $partial on. Sets curl_status, http_code (000: no answer came) and page
# (not empty: the answer is a web page).
run_curl() {
  local log=$lock.log answer
  check_ours "$partial" "$log" "$lock.http"
  { : >"$log" && : >"$lock.http"; } 2>/dev/null || die "cannot write in $folder (disk full?)$(what_is_kept)"
  # The token and the address, which may hold a password, go through a pipe, since anyone can read a command
  # line with ps. curl (7.58 or newer) does not pass either on when it is redirected to another host, as it is
  # to the CDN here. In the background, so that `wait` lets a signal through at once.
  {
    [ -z "$token" ] || printf 'header = "Authorization: Bearer %s"\n' "$token"
    printf 'url = "%s"\n' "$url"
  } | (
    # Into the lock before the first byte: a run that is killed here leaves no unknown curl behind.
    # shellcheck disable=SC2016 # the other bash expands it, to the number of this process; bash 3.2 has no BASHPID
    echo "${BASHPID:-$(exec "$BASH" -c 'echo $PPID')} $host" >>"$lock"
    limit_size
    # The size that --max-filesize refuses is the announced one. It leaves room for the page that may come
    # with a redirect, and for the whole of a file from a server that cannot resume.
    exec curl --config - --fail --location --max-redirs 10 --proto "$protocols" --proto-redir "$protocols" \
      --globoff --header 'Accept-Encoding: identity' \
      --connect-timeout 30 --speed-limit "$SLOWEST" --speed-time "$STALL_SECONDS" \
      --max-filesize $((cap + 1000000)) --continue-at - --output "$partial" \
      --silent --show-error --write-out '%{http_code} %{content_type}'
  ) >"$lock.http" 2>"$log" &
  child=$!
  [ ! -t 2 ] || show_progress
  wait "$child"
  curl_status=$?
  child=''
  read -r http_code answer <"$lock.http"
  http_code=${http_code:-000}
  if [ "$http_code" != 000 ]; then reached=yes; fi
  case $answer in
    [Tt][Ee][Xx][Tt]/[Hh][Tt][Mm][Ll]* | application/xhtml*) page=yes ;;
    *) page='' ;;
  esac
}

# Has the system stop a download that does not end: curl (before 8.4) looks only at the announced size.
# A write beyond the limit, which is in units of 1024 bytes, fails as on a full disk.
limit_size() {
  local limit=$((cap / 1024 + 1)) now
  trap '' XFSZ
  now=$(ulimit -S -f)
  if [ "$now" = unlimited ] || [ "$now" -gt "$limit" ]; then ulimit -S -f "$limit"; fi
} 2>/dev/null

show_progress() { # on one line of the terminal, until curl ends
  local size ended=''
  while [ -z "$ended" ]; do
    kill -0 "$child" 2>/dev/null || ended=yes
    size=$(size_of "$partial")
    if [ "$bytes" = - ]; then
      printf '\r%-20s' "$(human "$size")"
    else
      printf '\r%3d.%d%% of %s' $((100 * size / bytes)) $((1000 * size / bytes % 10)) "$(human "$bytes")"
    fi
    if [ -z "$ended" ]; then
      sleep 1 &
      wait "$!"
    fi
  done >&2
  say ''
}

curl_says() { # curl's own words on the last failure, in brackets
  local line said=''
  while IFS= read -r line || [ -n "$line" ]; do
    case $line in
      'curl: ('*)
        said=${line#curl: (*) }
        break
        ;;
    esac
  done <"$lock.log"
  redact "$said"
  printable "$redacted" 300
  echo "(curl exit $curl_status${printed:+: $printed})"
}

# Ends the script when the last request failed in a way that trying again will not heal.
die_if_hopeless() {
  case $http_code in
    401 | 403)
      if [ -n "$token" ]; then
        die "HTTP $http_code: $url did not accept HF_TOKEN; these models are public, so try without it$(what_is_kept)"
      fi
      die "HTTP $http_code: $url asks for a token: set HF_TOKEN$(what_is_kept)"
      ;;
    404) die "HTTP 404: there is no $url$(what_is_kept)" ;;
    408 | 425 | 429) return ;; # the server asks to come again later
    4*) die "HTTP $http_code from $url$(what_is_kept)" ;;
  esac
  case $curl_status in
    1) die "$url redirects to a protocol other than ${protocols#=}, which is not followed$(what_is_kept)" ;;
    23) die "cannot write $partial (disk full?)$(what_is_kept)" ;;
    63) die "$url is not the published file: more than $cap bytes are announced$(what_is_kept)" ;;
    5 | 6 | 7 | 28 | 35)
      # Once the server has answered, this is a connection that broke and may come back.
      [ -n "$reached" ] ||
        die "cannot reach $endpoint: no network? $(curl_says)$(what_is_kept)"
      ;;
    16 | 18 | 22 | 52 | 55 | 56 | 92 | 95) ;; # the connection broke, or (22) the server is in trouble
    *) die "cannot download $url $(curl_says)$(what_is_kept)" ;;
  esac
}

# Requests until the server has no more to send for $partial. Sets `resumed` if that took more than one
# piece. This loop replaces curl's --retry, which in many versions does not resume where it broke off.
transfer() {
  local before size failed=0 restarted='' pause started
  while :; do
    before=$(size_of "$partial")
    if [ "$before" -gt 0 ]; then resumed=yes; fi
    started=$SECONDS
    run_curl
    size=$(size_of "$partial")
    if [ "$size" -gt "$cap" ] || [ "$http_code" = 416 ]; then
      return # too much came; or (416) nothing is after the end of $partial; newer curls call that a success
    fi
    if [ "$curl_status" -eq 0 ]; then
      # A reply that does not say how long it is ends in the same way when it is whole and when it breaks.
      if [ "$bytes" = - ] || [ "$size" -ge "$bytes" ] || [ "$size" -eq 0 ] || [ -n "$page" ]; then return; fi
    elif [ "$curl_status" -eq 33 ]; then
      [ -z "$page" ] || die "$url is $WEB_PAGE$(what_is_kept)"
      [ -z "$restarted" ] || die "the connection to $endpoint breaks, and it cannot resume; try again later"
      say "$endpoint cannot resume: starting $model/$file again from the first byte"
      rm -f "$partial"
      restarted=yes
      resumed=''
      continue
    else
      die_if_hopeless
    fi
    if [ $((size - before)) -ge $((SLOWEST * (SECONDS - started + 1))) ]; then failed=0; fi
    failed=$((failed + 1))
    if [ "$failed" -ge "$ATTEMPTS" ]; then
      if [ "$curl_status" -eq 22 ]; then
        die "$endpoint answered HTTP $http_code $failed times; try again later$(what_is_kept)"
      fi
      die "the connection to $endpoint broke $failed times in a row $(curl_says)$(what_is_kept)"
    fi
    pause=$((1 << (failed - 1))) # 1, 2, 4, 8 seconds
    say "interrupted at $(human "$size") $(curl_says); going on in $pause s"
    nap "$pause"
  done
}

check_space() { # before, not after, filling the disk
  local needed free='' line columns=' ([0-9]+) +[0-9]+% ' # free, capacity: names may contain blanks
  needed=$((bytes - $(size_of "$partial")))
  line=$(df -Pk "$folder" 2>/dev/null | tail -n 1)
  if [[ $line =~ $columns ]]; then free=$((BASH_REMATCH[1] * 1024)); fi
  if [ -n "$free" ] && [ "$free" -lt "$needed" ]; then
    die "not enough space in $folder: $model/$file needs $(human "$needed"), $(human "$free") are free$(what_is_kept)"
  fi
}

# Makes $partial whole and verified. A resumed file that does not match may have a bad beginning from
# an earlier run, so it gets one second chance, from the first byte.
download() {
  local again size action whole
  url=$endpoint/$repo/resolve/$revision/$file
  page=''
  check_ours "$partial"
  size=$(size_of "$partial")
  if [ "$size" -gt "$cap" ]; then
    say "$partial is longer than the published file: starting again from the first byte"
    rm -f "$partial"
  fi
  for again in '' yes; do
    resumed=''
    size=$(size_of "$partial")
    if [ "$size" -gt 0 ] && [ "$size" = "$bytes" ]; then
      resumed=yes # whole already; a run was stopped before it could check
    else
      if [ "$size" -gt 0 ]; then action="resuming at $(human "$size") of"; else action=downloading; fi
      if [ "$bytes" = - ]; then whole='unknown size'; else whole=$(human "$bytes"); fi
      say "$model/$file: $action $whole, $url"
      if [ "$bytes" != - ]; then check_space; fi
      transfer
    fi
    if matches "$partial"; then return; fi
    [ -z "$page" ] || problem="it is $WEB_PAGE"
    rm -f "$partial"
    if [ -n "$again" ] || [ -z "$resumed" ]; then break; fi
    say "$model/$file: $problem; starting again from the first byte"
  done
  die "$url is not the published file: $problem; deleted it"
}

# Brings one file of the current model under its final name, or finds it there and good.
install_file() {
  local path=$folder/$1
  find_file "$1"
  if is_good; then return; fi
  if [ -e "$path" ] || [ -L "$path" ]; then
    say "checking $path"
    matches "$path" || die "$path is not the published file ($problem): move it away or delete it, then try again"
  else
    partial=$path.partial
    download
    sync "$partial" 2>/dev/null # else a power failure could leave the name without the bytes
    mv -f "$partial" "$path" 2>/dev/null || die "cannot rename $partial to $path"
  fi
  if [ "$file" = model.safetensors ]; then write_record; fi
}

install_model() {
  find_model "$1"
  check_folders
  if [ "$(model_state)" = yes ]; then
    say "$model: already there"
  else
    mkdir -p "$folder" 2>/dev/null
    if [ ! -d "$folder" ] || [ ! -w "$folder" ]; then
      die "cannot write to $folder: set NANOGPT_NP_HOME to a folder that you can write to"
    fi
    take_lock
    install_file config.json
    install_file model.safetensors
    release_lock
  fi
  printable "$model is in $folder" 5000
  echo "$printed"
  echo "try: python -m nanogpt_np.generate --model $model \"The capital of France is\""
}

# ---- The command line ----------------------------------------------------------------------------

list_models() {
  local name
  printf '%-12s %14s %10s  %-9s  %s\n' MODEL PARAMETERS DOWNLOAD THERE REVISION
  for name in $(model_names); do
    find_model "$name"
    find_file model.safetensors
    printf '%-12s %14s %10s  %-9s  %s\n' "$name" "$parameters" "$(human "$bytes")" "$(model_state)" "$revision"
  done
  if [ -n "$home" ]; then say "in $home"; else say "$NO_HOME"; fi
}

print_pins() {
  local name
  for name in $(model_names); do
    find_model "$name"
    find_file config.json && echo "$model $repo $revision $file $digest $bytes"
    find_file model.safetensors && echo "$model $repo $revision $file $digest $bytes"
  done
}

main() {
  local action=install names=() name hint
  child='' locked='' partial='' reached='' token='' logins=()
  check_lengths
  find_secrets
  find_home
  while [ $# -gt 0 ]; do
    case $1 in
      -h | --help) action=help ;;
      --list) action=list ;;
      --pins) action=pins ;;
      --)
        shift
        names+=("$@")
        break
        ;;
      -*)
        printable "$1" 100
        wrong_usage "unknown option '$printed'; see ./weights.sh --help"
        ;;
      *) names+=("$1") ;;
    esac
    shift
  done
  [ "${#names[@]}" -gt 0 ] || names=(gpt2)
  for name in "${names[@]}"; do # all of them, before the first byte of any
    if ! find_model "$name"; then
      hint=$(nearest_model "$name")
      printable "$name" 100
      wrong_usage "unknown model '$printed'; known: $(model_names)${hint:+; did you mean $hint?}"
    fi
  done
  case $action in
    help) usage ;;
    pins) print_pins ;;
    list)
      find_tools
      list_models
      ;;
    install)
      [ -n "$home" ] || die "$NO_HOME"
      find_tools
      find_endpoint
      set_traps
      for name in "${names[@]}"; do install_model "$name"; done
      ;;
  esac
}

main "$@"
