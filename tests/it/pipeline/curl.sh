#!/bin/bash
# Downloads from a folder, and the CI system's issuer of identity tokens.
file='' url=''
while (($#)); do
    case $1 in
    --output) file=$2 && shift ;;
    --config) cat >/dev/null && shift ;;
    --proto | --retry | --data-urlencode) shift ;;
    --*) ;;
    *) url=$1 ;;
    esac
    shift
done
printf 'curl %s\n' "$url" >>'@LOG@'
case $url in
https://identity/*) echo '{"value":"identity-of-the-job"}' ;;
*) cp "@DOWNLOADS@/${url##*/}" "$file" ;;
esac
