#!/usr/bin/env bash
# A first session with wherry ("make demo"): each command is shown, then run, then its output is checked.
#
# The engine is a private one: its images are below .cache/demo, its socket is in a directory of its own, and both are
# gone at the end. Nothing else on the machine is touched.
set -euo pipefail
BEGUN=${BEGUN-$(date +%s%3N)} # in ms; make begins earlier, with the environment
cd "$(dirname "$0")/.."

if [[ -t 1 ]]; then
    bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'
else
    bold='' dim='' green='' red='' plain=''
fi

title() { printf '\n%s%s%s\n' "$bold" "$1" "$plain"; }

note() { printf '%s%s%s\n' "$dim" "$1" "$plain"; }

fail() {
    printf '%sdemo failed: %s%s\n' "$red" "$1" "$plain" >&2
    [[ ! -s ${directory-}/engine.log ]] || sed 's/^/engine: /' "$directory/engine.log" | tail -20 >&2
    exit 1
}

base=$(scripts/base_image.sh)
image=$(basename "$base" .tar)
image=${image/-/:} # debian:bookworm, ubuntu:noble

# --- the engine, and its end ---

data=$PWD/.cache/demo
directory=$(mktemp -d /tmp/wherry-demo.XXXXXX) # a short path: a unix socket's has at most 107 bytes
socket=unix://$directory/wherry.sock
engine=

clean_up() {
    if [[ -n $engine ]]; then
        wherry ps --all --quiet --no-trunc 2>/dev/null | while read -r container; do
            wherry rm --force "$container" >/dev/null 2>&1 || true
        done
        # An ordinary user may not remove what layers have given to others: the engine can
        wherry system prune --all --force >/dev/null 2>&1 || true
        kill "$engine" 2>/dev/null || true
        wait "$engine" 2>/dev/null || true
        # An engine that crashed leaves monitors behind: they are what still has this session's socket in its environment.
        unset WHERRY_HOST
        grep --files-with-matches --null-data --line-regexp "WHERRY_HOST=$socket" /proc/[0-9]*/environ 2>/dev/null |
            cut -d/ -f3 | xargs --no-run-if-empty kill -9 2>/dev/null || true
    fi
    rm -rf "$directory" "$data"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

export PATH=$PWD/.venv/bin:$PATH
export WHERRY_HOST=$socket
unset DOCKER_HOST DOCKER_CONTEXT

rm -rf "$data"
mkfifo "$directory/ready"
wherry daemon --host "$WHERRY_HOST" --data-root "$data" --exec-root "$directory/run" --ready-fd 3 \
    >"$directory/engine.log" 2>&1 </dev/null 3<>"$directory/ready" &
engine=$!
exec 3<>"$directory/ready"
read -r -t 30 -u 3 _ || fail "the engine did not start"
exec 3>&-

# --- showing commands ---

output=
milliseconds=

# run COMMAND…: shows the command as a user would type it, runs it, shows its output
run() {
    local shown='' word begun status=0
    for word; do
        [[ $word =~ ^[A-Za-z0-9_./:=@%+-]+$ ]] || word="'$word'"
        shown+=" $word"
    done
    printf '%s$%s%s%s\n' "$green" "$plain$bold" "$shown" "$plain"
    begun=${EPOCHREALTIME/./}
    output=$("$@" 2>&1) || status=$?
    milliseconds=$(((${EPOCHREALTIME/./} - begun) / 1000))
    [[ -z $output ]] || printf '%s\n' "$output"
    ((status == 0)) || fail "'${shown# }' ended with exit code $status"
}

# expect PATTERN: the last command's output has a line that matches
expect() {
    grep -Eq -- "$1" <<<"$output" || fail "expected a line matching '$1' in the output above"
}

# --- the session ---

title "A private engine for this session (process $engine)"
note "export WHERRY_HOST=$WHERRY_HOST"

title "A base image, made from the packages of ${image%:*}: no registry"
run wherry import --change 'CMD ["bash"]' ".cache/$(basename "$base")" "$image"
expect '^sha256:[0-9a-f]{64}$'
note "$((milliseconds)) ms for $(($(stat --format %s "$base") / 1000000)) MB"

title "The same command on the host and in a container"
run cat /etc/issue
on_host=$milliseconds
wherry run --rm "$image" true || fail "a container does not start" # disk caches are warm after this
run wherry run --rm "$image" cat /etc/issue
expect '^(Debian|Ubuntu) '
in_container=$milliseconds
printf '\n    %-32s %5d ms\n    %-32s %5d ms\n' "on the host" "$on_host" "in a container, made and removed" "$in_container"

title "A container is a world of its own: processes, host name, files"
# shellcheck disable=SC2016 # the container's shell expands it
run wherry run --rm --hostname boat "$image" sh -c 'echo "process $$ on $(hostname), $(ls / | wc -l) entries in /"'
expect '^process 1 on boat'

title "Change something inside a container"
run wherry run --name painter "$image" sh -c 'echo "Hello from a wherry" > /greeting && rm /etc/issue.net'
run wherry ps --all
expect 'painter$'
expect 'Exited \(0\)'

title "See what changed"
run wherry diff painter
expect '^A /greeting$'
expect '^D /etc/issue.net$'

title "Keep it as an image, and run that"
run wherry commit --message 'a greeting' --change 'CMD ["cat", "/greeting"]' painter greeter
run wherry images
expect '^greeter +latest '
expect "^${image%:*} +${image#*:} "
run wherry run --rm greeter
expect '^Hello from a wherry$'

title "A container in the background"
# shellcheck disable=SC2016 # the container's shell expands it
run wherry run --detach --name clock "$image" sh -c 'trap "echo bye; exit 0" TERM; echo started; while :; do sleep 0.1; done'
run wherry ps
expect 'Up .* clock$'
run wherry exec clock cat /proc/1/comm
expect '^sh$'
run wherry stop clock
run wherry logs clock
expect '^started$'
expect '^bye$'
run wherry rm painter clock

title "Build an image from a Dockerfile, and publish its port"
mkdir "$directory/harbour"
cat >"$directory/harbour/Dockerfile" <<END
FROM $image
RUN echo "Ahoy from a published port" >/etc/motd
COPY serve /usr/local/bin/serve
EXPOSE 80
CMD ["serve"]
END
cat >"$directory/harbour/serve" <<'END'
#!/usr/bin/perl
use IO::Socket::INET;
my $listener = IO::Socket::INET->new(LocalPort => 80, Listen => 5) or die;
syswrite STDOUT, "listening\n";
while (my $client = $listener->accept) { open my $file, "<", "/etc/motd"; print {$client} <$file>; close $client }
END
chmod 755 "$directory/harbour/serve"
run cat "$directory/harbour/Dockerfile"
run wherry build --tag harbour "$directory/harbour"
run wherry build --quiet --tag harbour "$directory/harbour" # all of it is in the cache
note "$milliseconds ms"
run wherry run --detach --name harbour --publish 127.0.0.1::80 harbour
run wherry port harbour 80
expect '^127.0.0.1:[0-9]+$'
address=${output/://}
grep -q listening < <(wherry logs --follow harbour) || fail "the container does not listen"
run bash -c "cat </dev/tcp/$address"
expect '^Ahoy from a published port$'
run wherry rm --force harbour

took=$((($(date +%s%3N) - BEGUN) / 100))
printf '\n%sAll of it worked%s, in %d.%d s. Next: README.md, or .venv/bin/wherry --help\n' \
    "$green" "$plain" $((took / 10)) $((took % 10))
