#compdef palate
# zsh completion for palate. Add to ~/.zshrc, after compinit:  source <(palate completion zsh)
_palate() {
    local line word text
    local -a lines closed open
    lines=("${(@f)$("${(Q)words[1]}" __complete "${(@Q)words[2,CURRENT]}" 2>/dev/null)}")
    for line in "${(@)lines[2,-1]}"; do
        word=${line%%$'\t'*}
        text=${line#*$'\t'}
        if [[ $word == *. ]]; then
            open+=("${word//:/\\:}:$text")
        else
            closed+=("${word//:/\\:}:$text")
        fi
    done
    (( ${#closed} )) && _describe -t words palate closed
    (( ${#open} )) && _describe -t groups palate open -S ''
    if [[ ${lines[1]} == files ]]; then
        compset -P '--*='
        _files
    fi
}
if [[ ${funcstack[1]} == _palate ]]; then
    _palate "$@"
else
    compdef _palate palate
fi
