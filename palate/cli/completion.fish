# fish completion for palate. Add to ~/.config/fish/config.fish:  palate completion fish | source
function __palate_complete
    set -l before (commandline -opc)
    set -l current (commandline -ct)
    set -l program $before[1]
    set -e before[1]
    set -l lines ($program __complete $before "$current" 2>/dev/null)
    set -l first $lines[1]
    set -e lines[1]
    for line in $lines
        echo $line
    end
    if test "$first" = files
        set -l start (string replace -r '^--[^=]*=' '' -- $current)
        set -l prefix (string match -r '^--[^=]*=' -- $current)
        for path in (__fish_complete_path $start)
            echo "$prefix$path"
        end
    end
end
complete -c palate -f -a '(__palate_complete)'
