# costs.awk: what a callgrind dump says about Sluice's own code, without the simulator that it ran in.
#
#   awk -f costs.awk -v n=RECORDS [-v top=N] DUMP      the dump uncompressed (--compress-strings=no --compress-pos=no)
#
# A function's cost is its own instructions and those of the libraries that it calls (libc, LZ4, protobuf-c; also proto/base.c). So what env_sim*.c and budget.c
# do, and have done by libraries, falls out by itself, and what they call of Sluice's code counts. Lines on stdout, figures per record:
#   total INSTRUCTIONS
#   part FOLDER INSTRUCTIONS
#   call ENV_FUNCTION CALLS           how often the code asked the operating system for something
#   function INSTRUCTIONS FILE:NAME OWN_INSTRUCTIONS       the `top` most expensive
function base(path) { sub(/.*\//, "", path); return path }

# The folder a function belongs to; "" if it is none of ours (a library, the simulator, the course).
function part_of(object, file, name) {
    if (object ~ /\/libraft\./) { return "libraft" }
    if (object !~ /\/sluice-budget$/) { return "" }
    if (file ~ /\/env_sim[^\/]*$/ || file ~ /\/proto\/base\.c$/ || file ~ /\/tests\/budget\//) { return "" }
    if (match(file, /\/(proto|storage|raft|server|client)\/[^\/]*$/)) {
        file = substr(file, RSTART + 1)
        sub(/\/.*/, "", file)
        return file
    }
    return "other" # generated code
}

function library(object, name) {
    return (object !~ /\/sluice-budget$/ && object !~ /\/libraft\./) || name ~ /^(xmalloc|xcalloc|xrealloc|xstrdup|xmemdup)$/
}

/^ob=/ { object = substr($0, 4); next }
/^(fl|fi|fe)=/ { file = substr($0, 4); next }
/^fn=/ {
    name = substr($0, 4)
    part = part_of(object, file, name)
    key = base(file) ":" name
    callee_object = ""
    next
}
/^cob=/ { callee_object = substr($0, 5); next }
/^(cfi|cfl)=/ { callee_file = substr($0, 5); next }
/^cfn=/ { callee = substr($0, 5); next }
/^calls=/ {
    split(substr($0, 7), fields, " ")
    calls = fields[1]
    getline
    if (part != "") {
        if (library(callee_object == "" ? object : callee_object, callee)) {
            cost[key] += $2
            parts[part] += $2
            total += $2
        } else if (callee ~ /^sim_/) {
            asked[callee] += calls
        }
    }
    callee_object = ""
    next
}
/^[0-9+*-]/ {
    if (part != "") {
        cost[key] += $2
        own[key] += $2
        parts[part] += $2
        total += $2
    }
}
END {
    if (n == 0 || total == 0) {
        print "costs.awk: nothing was counted" >"/dev/stderr"
        exit 1
    }
    printf "total %.1f\n", total / n
    for (p in parts) {
        printf "part %s %.1f\n", p, parts[p] / n
    }
    for (a in asked) {
        printf "call %s %.4f\n", a, asked[a] / n
    }
    for (i = 0; i < top; i++) {
        best = ""
        for (k in cost) {
            if (best == "" || cost[k] > cost[best]) {
                best = k
            }
        }
        if (best == "" ) {
            break
        }
        printf "function %.1f %s %.1f\n", cost[best] / n, best, own[best] / n
        delete cost[best]
    }
}
