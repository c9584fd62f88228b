#!/bin/bash
# The program, with the daemon and Kafka played. Load tests are shortened to 300 requests in three seconds.
printf 'bellwether %s\n' "$*" >>'@LOG@'
real='@REAL@'

# Checks that an event could be sent: by --url, or to brokers with a password.
can_send() {
    [[ " $* " != *' --url '* ]] || return 0
    [[ -n ${BELLWETHER_KAFKA__BROKERS:-} ]] || { echo 'error: no brokers and no --url' >&2; exit 1; }
    [[ -s ${BELLWETHER_KAFKA__SECURITY__PASSWORD_FILE:-} ]] || { echo 'error: no password for Kafka' >&2; exit 1; }
    # The settings in the environment must be known.
    "$real" check >/dev/null || exit
}

case "$1 ${2:-}" in
'emit request')
    can_send "$@"
    "$real" "$@" --print >/dev/null || exit
    echo assistant-0123456789
    ;;
'gate publish')
    can_send "$@"
    "$real" "$@" --print || exit
    ;;
'status assistant-0123456789')
    [[ -n ${BELLWETHER_API:-} ]] || { echo 'error: no daemon at 127.0.0.1:8080' >&2; exit 1; }
    ;;
'why assistant-0123456789') echo 'promoted' ;;
'load '*)
    arguments=()
    while (($#)); do
        case $1 in
        --rate) arguments+=("$1" 100/s) && shift 2 ;;
        --duration) arguments+=("$1" 3s) && shift 2 ;;
        --warm-up) arguments+=("$1" 0s) && shift 2 ;;
        *) arguments+=("$1") && shift ;;
        esac
    done
    exec "$real" "${arguments[@]}"
    ;;
*) exec "$real" "$@" ;;
esac
