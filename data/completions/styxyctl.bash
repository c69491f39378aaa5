# SPDX-License-Identifier: LGPL-2.1-or-later
# bash completion for styxyctl(1)

# Calls the styxyctl that is being completed, with the options that say where the daemon is.
__styxyctl_ask() {
    local word options=()
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case $word in
            --user | --system) options+=("$word") ;;
            --) break ;;
        esac
    done
    styxyctl "${options[@]}" --quiet --no-pager "$@" 2>/dev/null
}

__styxyctl_types() {
    __styxyctl_ask config show | awk '/^#/ { next } header++ { print $1 }'
}

__styxyctl_ports() {
    __styxyctl_ask list | awk 'NR > 1 { print $1 "/" $2 }'
}

_styxyctl() {
    local verbs='allocate run release renew list show check scan suggest monitor status metrics
        health cleanup recover config reload'
    local global='--system --user --address= --json= --quiet --no-pager --help --version'
    local grant='--port= --strict --range= --protocol= --address= --instance= --label= --hold=
        --retries= --health-url= --health-timeout= --on-unhealthy='
    local cur prev words cword verb='' i options choices='' operands=0

    _init_completion -n = 2>/dev/null || {
        cur=${COMP_WORDS[COMP_CWORD]}
        prev=${COMP_WORDS[COMP_CWORD - 1]}
        words=("${COMP_WORDS[@]}")
        cword=$COMP_CWORD
    }

    for ((i = 1; i < cword; i++)); do
        case ${words[i]} in
            --)
                # the command of run: as if it stood alone
                if [[ $verb == run ]] && declare -F _command_offset >/dev/null; then
                    _command_offset $((i + 1))
                fi
                return
                ;;
            --port | --range | --protocol | --address | --instance | --label | --hold | --retries | \
                --health-url | --health-timeout | --on-unhealthy | --lifetime | --pid | --ttl | \
                --count | --json | --type | --uid | --health)
                ((i++))
                ;;
            -*) ;;
            *)
                if [[ -z $verb ]]; then
                    verb=${words[i]}
                else
                    ((operands++))
                fi
                ;;
        esac
    done

    local option=$prev value=$cur
    if [[ $cur == --*=* ]]; then
        option=${cur%%=*}
        value=${cur#*=}
    fi
    case $option in
        --json) choices='short pretty off' ;;
        --protocol) choices='tcp udp both' ;;
        --lifetime) choices='auto process persistent' ;;
        --hold) choices='none soft' ;;
        --on-unhealthy) choices='release restart notify' ;;
        --health) choices='reserved active failing dormant quarantined' ;;
        --type) choices=$(__styxyctl_types) ;;
        --pid) choices=$(command ps -u "$UID" -o pid= 2>/dev/null) ;;
        --port | --range | --address | --instance | --label | --retries | --health-url | \
            --health-timeout | --ttl | --count | --uid) return ;;
        *) option='' ;;
    esac
    if [[ -n $option ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$value")
        return
    fi

    if [[ $cur == -* ]]; then
        options=$global
        case $verb in
            allocate) options+=" $grant --lifetime= --pid= --ttl= --count=" ;;
            run) options+=" $grant --socket" ;;
            release) options+=' --protocol= --instance=' ;;
            renew | show | check | health) options+=' --protocol=' ;;
            list) options+=' --type= --instance= --uid= --protocol= --health=' ;;
            suggest) options+=' --count=' ;;
            metrics) options+=' --prometheus' ;;
            cleanup | recover) options+=' --dry-run' ;;
        esac
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
        [[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace
        return
    fi

    case $verb in
        '') choices=$verbs ;;
        allocate | suggest) ((operands == 0)) && choices=$(__styxyctl_types) ;;
        run) ((operands == 0)) && choices=$(__styxyctl_types) || choices=-- ;;
        release | renew) choices=$(__styxyctl_ports) ;;
        show | health | check) ((operands == 0)) && choices=$(__styxyctl_ports) ;;
        config)
            if ((operands == 0)); then
                choices='check show sysctl'
            elif [[ ${words[*]} == *' check '* ]]; then
                compopt -o default
                return
            fi
            ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$cur")
}

complete -F _styxyctl styxyctl
