#!/bin/bash
# The job of `tandem render slurm` in a Slurm of its own: two slurmd of this machine are two machines. It serves over
# encrypted tcp, a second job adds a node, scancel takes it away.
. tests/lib/cluster.sh
export SLURM_CONF=$TMP/slurm.conf
ran=

pids() { cat "$TMP"/*.pid 2>/dev/null; }
end() {
    # shellcheck disable=SC2046 # lists on purpose
    if [ -n "$ran" ]; then
        scancel $(squeue -h -o %A 2>/dev/null) 2>/dev/null
        sleep 1
        kill $(pids) 2>/dev/null
        sleep 0.5
        kill -9 $(pids) 2>/dev/null
    fi
    finish
}
trap end EXIT

for p in munged slurmctld slurmd sbatch; do
    command -v $p >/dev/null || { echo "skip slurm: no $p"; exit 0; }
done

slurm() {
    local me host
    me=$(id -un) host=$(hostname -s)
    ran=yes
    dd if=/dev/urandom of="$TMP/munge.key" bs=64 count=1 2>/dev/null
    chmod 600 "$TMP/munge.key"
    chmod 755 "$TMP" # munged insists
    munged --force --socket="$TMP/munge.sock" --key-file="$TMP/munge.key" --pid-file="$TMP/munged.pid" \
        --log-file="$TMP/munged.log" --seed-file="$TMP/munge.seed" --num-threads=1 || return 1
    cat >"$SLURM_CONF" <<EOF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmUser=$me
SlurmdUser=$me
AuthType=auth/munge
AuthInfo=socket=$TMP/munge.sock
CredType=cred/munge
MailProg=/bin/true
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
ReturnToService=2
SwitchType=switch/none
StateSaveLocation=$TMP/state
SlurmdSpoolDir=$TMP/spool-%n
SlurmctldPidFile=$TMP/slurmctld.pid
SlurmdPidFile=$TMP/slurmd-%n.pid
SlurmctldLogFile=$TMP/slurmctld.log
SlurmdLogFile=$TMP/slurmd-%n.log
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=$(free_port) CPUs=8 RealMemory=12000
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=$(free_port) CPUs=8 RealMemory=12000
PartitionName=all Nodes=n1,n2 Default=YES State=UP
EOF
    mkdir -p "$TMP/state" "$TMP/spool-n1" "$TMP/spool-n2"
    slurmctld -f "$SLURM_CONF" && slurmd -N n1 -f "$SLURM_CONF" && slurmd -N n2 -f "$SLURM_CONF" || return 1
    for _ in $(seq 100); do
        [ "$(sinfo -h -o '%D %T' 2>&1)" = "2 idle" ] && return 0
        sleep 0.1
    done
    sinfo
    tail -n 5 "$TMP"/slurm*.log
    return 1
}

# A machine of two cores, as lstopo records it.
topology() {
    # cpu I: the attributes of what is core I
    cpu() { echo "os_index=\"$1\" cpuset=\"0x$2\" complete_cpuset=\"0x$2\" nodeset=\"0x1\" complete_nodeset=\"0x1\""; }
    cat <<EOF
<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE topology SYSTEM "hwloc2.dtd">
<topology version="2.0">
  <object type="Machine" $(cpu 0 3) allowed_cpuset="0x3" allowed_nodeset="0x1" gp_index="1">
    <object type="NUMANode" $(cpu 0 3) gp_index="2" local_memory="17179869184"/>
    <object type="Core" $(cpu 0 1) gp_index="3">
      <object type="PU" $(cpu 0 1) gp_index="4"/>
    </object>
    <object type="Core" $(cpu 1 2) gp_index="5">
      <object type="PU" $(cpu 1 2) gp_index="6"/>
    </object>
  </object>
</topology>
EOF
}

render() {
    PORT=$(free_port)
    topology >"$TMP/two.xml"
    cat >"$TMP/c.yaml" <<EOF
cluster: job
model: $DEMO
router: {http: "0.0.0.0:$PORT", nodes: "tcp://*:$(free_port)"}
decode: {slots: 4, swap: 64MiB}
hosts:
  - {host: local, address: 10.9.9.1, prefill: 1}
  - {host: other, address: 10.9.9.2, programs: $BIN, model: $DEMO, decode: 1}
EOF
    "$BIN/tandem" render slurm "$TMP/c.yaml" --topology="local=$TMP/two.xml,other=$TMP/two.xml" -o "$TMP/job" || return 1
    bash -n "$TMP/job/serve.sbatch" && bash -n "$TMP/job/node.sbatch" || return 1
    ! grep -n '198\.18\|10\.9\.9' "$TMP/job/"* # addresses are the machines' own
}
# registered NAMES: within 20 s these nodes are ready, and no others there
registered() {
    for _ in $(seq 200); do
        [ "$(nodes '[.nodes[] | select(.state == "ready") | .name] | sort | join(" ")' 2>/dev/null)" = "$1" ] && return 0
        sleep 0.1
    done
    squeue
    tail -n 5 "$TMP"/job/*.out "$TMP"/slurm*.log
    return 1
}
serves() {
    (cd "$TMP/job" && sbatch --parsable serve.sbatch) >"$TMP/serve.id" || return 1
    URL=http://127.0.0.1:$PORT
    registered "decode-1 prefill-1" || return 1
    squeue -h -s -o '%j %N' | sort | tee "$TMP/steps" # a step on each machine
    grep -q '^decode-1 n2' "$TMP/steps" && grep -q '^prefill-1 n1' "$TMP/steps" && grep -q '^router n1' "$TMP/steps" || return 1
    post /v1/completions '{"prompt": "Emma", "max_tokens": 20, "ignore_eos": true}' | jq -e '.usage.completion_tokens == 20'
}
encrypted() { # the job made the keys, and they are its own
    [ "$(stat -c %a "$TMP"/job/*.keys "$TMP"/job/*.keys.node | sort -u)" = 600 ] &&
        grep -q '^keys=.*\.keys$' "$TMP/job/tandem-job.router"
}
more() {
    (cd "$TMP/job" && sbatch --parsable node.sbatch) >"$TMP/node.id" || return 1
    registered "decode-1 decode-job-$(cat "$TMP/node.id") prefill-1"
}
fewer() {
    scancel "$(cat "$TMP/node.id")" || return 1
    registered "decode-1 prefill-1"
}
restarts() {
    local pid
    pid=$(nodes '.nodes[] | select(.name == "decode-1") | .pid')
    kill -9 "$pid" || return 1
    for _ in $(seq 200); do
        [ "$(nodes '.nodes[] | select(.name == "decode-1" and .state == "ready") | .pid')" != "$pid" ] && break
        sleep 0.1
    done
    registered "decode-1 prefill-1"
}
ends() {
    scancel "$(cat "$TMP/serve.id")" || return 1
    for _ in $(seq 100); do
        [ -z "$(squeue -h)" ] && ! curl -s -m 1 "$URL/health" >/dev/null && return 0
        sleep 0.1
    done
    squeue
    return 1
}

t "render" render
t "two slurmd of one machine" slurm
t "the job serves on both" serves
t "under keys of its own" encrypted
t "another job adds a node" more
t "scancel takes it away" fewer
t "a process that dies is started again" restarts
t "scancel ends the cluster" ends
