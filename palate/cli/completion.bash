# bash completion for palate. Add to ~/.bashrc:  source <(palate completion bash)
_palate() {
    local cur=${COMP_WORDS[COMP_CWORD]} line word files=""
    COMPREPLY=()
    while IFS= read -r line; do
        case $line in
            files) files=1 ;;
            words) ;;
            *) word=${line%%$'\t'*}; COMPREPLY+=("$word") ;;
        esac
    done < <("${COMP_WORDS[0]}" __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    if [[ -n $files ]]; then
        [[ $cur == "=" ]] && cur=""
        compopt -o filenames 2>/dev/null
        while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -f -- "$cur")
    elif [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *. ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
complete -F _palate palate
