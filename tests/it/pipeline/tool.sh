#!/bin/bash
# A tool that finds nothing to complain about. It writes an empty SARIF report where it is told to.
printf '%s %s\n' '@NAME@' "$*" >>'@LOG@'
sarif='{ "version": "2.1.0", "runs": [] }'
while (($#)); do
    case $1 in
    sarif=* | json=*) echo "$sarif" >"${1#*=}" ;;
    --output | --output-file) [[ ${2:-} == *=* ]] || { [[ ${2:-} != *.* ]] || echo "$sarif" >"$2"; } ;;
    --junitxml=* | --cov-report=xml:*) echo '<xml/>' >"${1##*[=:]}" ;;
    esac
    shift
done
