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
# It needs bash 3.2 (the one macOS has), curl, and sha256sum or shasum. Every failure that matters is
# checked where it can happen, with its own message; that is why there is no `set -e`.

set -u

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

ATTEMPTS=5       # in a row that bring no new byte; any progress starts the count again
STALL_SECONDS=60 # with no byte at all count as a broken connection

usage() {
  cat <<END
usage: ./weights.sh [MODEL ...]     download (default: gpt2), or say that it is already there
       ./weights.sh --list          the models, their sizes, and which are there
       ./weights.sh --pins          what is downloaded, for scripts: a line per file with
                                    MODEL REPO REVISION FILE SHA256 BYTES (- when unknown)
       ./weights.sh --help

Models: $(model_names)
Folder: $home/MODEL

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

say() { printf '%s\n' "$*" >&2; }

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

size_of() { # bytes of file $1; 0 when there is none
  if [ -f "$1" ]; then
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

find_home() { # sets home
  home=${NANOGPT_NP_HOME:-}
  if [ -z "$home" ]; then
    [ -n "${HOME:-}${XDG_CACHE_HOME:-}" ] || die 'neither NANOGPT_NP_HOME nor HOME says where to put the weights'
    case $(uname -s) in
      Darwin) home=${HOME:-}/Library/Caches/nanogpt_np ;;
      *) home=${XDG_CACHE_HOME:-${HOME:-}/.cache}/nanogpt_np ;;
    esac
  fi
  case $home in
    /*) ;;
    *) home=$PWD/$home ;; # so that no path can be taken for an option
  esac
}

find_tools() { # sets sha256
  command -v curl >/dev/null || die 'curl is not installed, or not in PATH'
  if command -v sha256sum >/dev/null; then
    sha256=(sha256sum)
  elif command -v shasum >/dev/null; then
    sha256=(shasum -a 256)
  else
    die 'neither sha256sum nor shasum is installed, or in PATH'
  fi
}

find_endpoint() { # sets endpoint and token, by the rules of Hugging Face's own tools
  endpoint=${HF_ENDPOINT:-https://huggingface.co}
  endpoint=${endpoint%/}
  case $endpoint in
    http://?* | https://?*) ;;
    *) die "HF_ENDPOINT is '$endpoint'; expected something like https://huggingface.co" ;;
  esac
  token=${HF_TOKEN:-}
  token=${token//[[:space:]]/}
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
      folder=$home/$model
      return 0
    fi
  done
  return 1
}

find_file() { # sets file, digest and bytes of the current model's file $1
  local i
  for ((i = 0; i < ${#FILES[@]}; i += 4)); do
    if [ "${FILES[i]}" = "$model" ] && [ "${FILES[i + 1]}" = "$1" ]; then
      file=$1
      digest=${FILES[i + 2]}
      bytes=${FILES[i + 3]}
      return 0
    fi
  done
  die "weights.sh has no pin for $1 of $model" # only an edit of the tables can lead here
}

nearest_model() { # the model that $1 was probably meant to be, or nothing
  local name wanted
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

# True when file $1 has the pinned size and SHA-256; else `problem` says how it differs.
matches() {
  local size found
  size=$(size_of "$1")
  if [ ! -f "$1" ]; then
    problem='it is not a regular file'
  elif [ "$bytes" != - ] && [ "$size" -ne "$bytes" ]; then
    problem="expected $bytes bytes, found $size"
  elif ! found=$("${sha256[@]}" <"$1"); then
    problem='it cannot be read'
  elif [ "${found%% *}" != "$digest" ]; then
    problem="expected SHA-256 $digest, found ${found%% *}"
  else
    return 0
  fi
  return 1
}

# True when the current file is there and known to be good without reading it through. Half a gigabyte
# takes seconds to hash, so a good model.safetensors has a record beside it: the line that sha256sum
# prints. A record older than the file says nothing about it. config.json is small: hash it each time.
is_good() {
  local path=$folder/$file
  if [ "$file" = config.json ]; then
    matches "$path"
  else
    [ -f "$path" ] && [ -f "$path.sha256" ] && [ ! "$path.sha256" -ot "$path" ] &&
      { [ "$bytes" = - ] || [ "$(size_of "$path")" -eq "$bytes" ]; } &&
      [ "$(cat "$path.sha256")" = "$digest  $file" ]
  fi
}

write_record() { # nanogpt_np reads it to say which weights it runs, without hashing them again
  local record=$folder/$file.sha256
  { printf '%s  %s\n' "$digest" "$file" >"$record.partial" && mv -f "$record.partial" "$record"; } 2>/dev/null ||
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

# ---- One run at a time ---------------------------------------------------------------------------

# The file .lock holds "PID HOST" of the run that owns the folder, and of each curl it started: a curl
# may outlive a run that is killed with -9, and goes on writing. Whoever wants the lock looks and writes
# inside .lock.guard, a folder held for milliseconds (mkdir either makes it or fails: no two runs can
# both succeed). So two runs cannot take one dead run's lock both.

lock_holder() { # describes the living process that holds the lock; nothing when it is free
  local pid host
  [ -f "$lock" ] || return
  while read -r pid host; do
    if [ "$host" != "$HOSTNAME" ]; then
      echo "process $pid on $host" # cannot be looked at from here: believe it
      return
    elif kill -0 "$pid" 2>/dev/null || ps -p "$pid" >/dev/null 2>&1; then # ps sees other users' too
      echo "process $pid"
      return
    fi
  done 2>/dev/null <"$lock"
}

take_lock() {
  local holder told='' failed=0
  lock=$folder/.lock
  while :; do
    trap '' INT TERM HUP # nothing may interrupt us while we hold the guard
    if mkdir "$lock.guard" 2>/dev/null; then
      holder=$(lock_holder)
      if [ -z "$holder" ] && { echo "$$ $HOSTNAME" >"$lock"; } 2>/dev/null; then locked=yes; fi
      rmdir "$lock.guard"
      set_traps
      [ -z "$locked" ] || return
      [ -n "$holder" ] || die "cannot write $lock (disk full?)"
      [ "$holder" = "$told" ] ||
        say "waiting for another weights.sh ($holder) to finish with $model (if there is none, delete $lock)"
      told=$holder
      failed=0
    else
      set_traps
      failed=$((failed + 1))
      [ "$failed" -lt 10 ] || die "cannot make $lock.guard (disk full?); if it is there, delete it and try again"
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

# One request, from the end of $partial on. Sets curl_status and http_code (000: no answer came).
run_curl() {
  local look=(--silent --show-error) log=$lock.log
  if [ -t 2 ]; then
    look=(--progress-bar)
    exec 3>&2
  else
    exec 3>"$log"
  fi
  : >"$lock.http"
  # The token goes through a pipe, since anyone can read a command line with ps. curl (7.58 or newer)
  # does not pass the header on when it is redirected to another host, as it is to the CDN here.
  # In the background, so that `wait` lets a signal through at once.
  { [ -z "$token" ] || printf 'header = "Authorization: Bearer %s"\n' "$token"; } |
    curl --config - --fail --location \
      --connect-timeout 30 --speed-limit 1 --speed-time "$STALL_SECONDS" \
      --continue-at - --output "$partial" --write-out '%{http_code}' \
      "${look[@]}" "$url" >"$lock.http" 2>&3 &
  child=$!
  exec 3>&-
  { echo "$child $HOSTNAME" >>"$lock"; } 2>/dev/null
  wait "$child"
  curl_status=$?
  child=''
  http_code=$(cat "$lock.http")
  http_code=${http_code:-000}
  if [ "$http_code" != 000 ]; then reached=yes; fi
}

curl_says() { # curl's own words on the last failure, in brackets; on a terminal it has printed them
  local line=''
  if [ -s "$lock.log" ]; then
    read -r line <"$lock.log"
    line=${line#curl: (*) }
  fi
  echo "(curl exit $curl_status${line:+: $line})"
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
    23) die "cannot write $partial (disk full?)$(what_is_kept)" ;;
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
  local before failed=0 restarted='' pause
  while :; do
    before=$(size_of "$partial")
    if [ "$before" -gt 0 ]; then resumed=yes; fi
    run_curl
    if [ "$curl_status" -eq 0 ] || [ "$http_code" = 416 ]; then
      return # 416: there is nothing after the end of $partial; newer curls call that a success
    fi
    if [ "$curl_status" -eq 33 ]; then
      [ -z "$restarted" ] || die "the connection to $endpoint breaks, and it cannot resume; try again later"
      say "$endpoint cannot resume: starting $model/$file again from the first byte"
      rm -f "$partial"
      restarted=yes
      resumed=''
      continue
    fi
    die_if_hopeless
    if [ "$(size_of "$partial")" -gt "$before" ]; then failed=0; fi
    failed=$((failed + 1))
    if [ "$failed" -ge "$ATTEMPTS" ]; then
      if [ "$curl_status" -eq 22 ]; then
        die "$endpoint answered HTTP $http_code $failed times; try again later$(what_is_kept)"
      fi
      die "the connection to $endpoint broke $failed times in a row $(curl_says)$(what_is_kept)"
    fi
    pause=$((1 << (failed - 1))) # 1, 2, 4, 8 seconds
    say "interrupted at $(human "$(size_of "$partial")") $(curl_says); going on in $pause s"
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
  size=$(size_of "$partial")
  if [ "$bytes" != - ] && [ "$size" -gt "$bytes" ]; then
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
    mv -f "$partial" "$path" || die "cannot rename $partial to $path"
  fi
  if [ "$file" = model.safetensors ]; then write_record; fi
}

install_model() {
  find_model "$1"
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
  echo "$model is in $folder"
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
  say "in $home"
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
  child='' locked='' partial='' reached=''
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
      -*) wrong_usage "unknown option '$1'; see ./weights.sh --help" ;;
      *) names+=("$1") ;;
    esac
    shift
  done
  [ "${#names[@]}" -gt 0 ] || names=(gpt2)
  for name in "${names[@]}"; do # all of them, before the first byte of any
    if ! find_model "$name"; then
      hint=$(nearest_model "$name")
      wrong_usage "unknown model '$name'; known: $(model_names)${hint:+; did you mean $hint?}"
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
      find_tools
      find_endpoint
      set_traps
      for name in "${names[@]}"; do install_model "$name"; done
      ;;
  esac
}

main "$@"
