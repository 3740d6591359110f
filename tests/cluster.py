"""A Slurm of one node on this machine, with daemons, key and ports of its own, for as long as a block runs."""

import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

PACKAGES = ("slurm-wlm", "munge")
PATH = f"{os.environ['PATH']}:/usr/sbin"

# The node has more processors than the machine, so that tasks begin at the same moment, and two GPUs that are none.
SETTINGS = """
ClusterName=attnsleep
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=bf_interval=1,sched_interval=1,batch_sched_delay=0
MpiDefault=none
ReturnToService=2
GresTypes=gpu
NodeName=node NodeHostname={host} NodeAddr=127.0.0.1 CPUs=80 Gres=gpu:2
PartitionName=all Nodes=node Default=YES MaxTime=INFINITE
"""


@contextmanager
def cluster(folder):
    """Run the daemons, of which none is left at the end.

    Yields the environment in which Slurm's commands speak to them, and installs Slurm and munge if they are missing.
    """
    install()
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o400)
    (folder / "gres.conf").write_text("Name=gpu File=/dev/zero\nName=gpu File=/dev/full\n")
    controller_port, node_port = free_ports()
    values = {"host": socket.gethostname().partition(".")[0], "folder": folder}
    text = SETTINGS.format(controller_port=controller_port, node_port=node_port, **values)
    (folder / "slurm.conf").write_text(text)
    environment = {"PATH": PATH, "SLURM_CONF": str(folder / "slurm.conf")}
    munge = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "log", "seed")]
    commands = (
        ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *munge],
        ["slurmctld", "-D", "-i"],
        ["slurmd", "-D", "-N", "node"],
    )
    daemons = []
    try:
        for command in commands:
            with (folder / f"{command[0]}.out").open("wb") as out:
                whole = os.environ | environment
                daemons.append(subprocess.Popen(command, env=whole, stdout=out, stderr=out, start_new_session=True))
            wait_for((folder / "munge.socket").exists, "munge")
        wait_for(lambda: is_idle(environment) or ended(daemons), "an idle node")
        assert not ended(daemons), "".join(path.read_text() for path in folder.glob("*.out"))
        yield environment
    finally:
        left = {*stop(environment, daemons), *processes(folder)}
        for process in left:
            os.kill(process, signal.SIGKILL)
        assert not left, "processes that did not end"


def stop(environment, daemons):
    """Cancel all tasks and end the daemons; return those that do not end."""
    with suppress(AssertionError, subprocess.TimeoutExpired):
        said(environment, "scancel", "--user=root")
        wait_for(lambda: not said(environment, "squeue", "--noheader"), "an empty queue")
    left = []
    for daemon in reversed(daemons):
        daemon.terminate()
        try:
            daemon.wait(60)
        except subprocess.TimeoutExpired:
            left.append(daemon.pid)
    return left


def install():
    """Install what is missing; skip the tests where that cannot be done, or a node cannot be run."""
    if os.geteuid() != 0:
        pytest.skip("a node of Slurm is run by root")
    if not all(shutil.which(program, path=PATH) for program in ("munged", "slurmctld", "slurmd", "sbatch")):
        if not shutil.which("apt-get"):
            pytest.skip(f"needs {' and '.join(PACKAGES)}, or apt-get to install them")
        for arguments in (["update"], ["install", "--yes", "--no-install-recommends", *PACKAGES]):
            environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
            subprocess.run(["apt-get", "-qq", *arguments], env=environment, check=True)


def is_idle(environment):
    return said(environment, "sinfo", "--noheader", "--format=%T").strip() == "idle"


def ended(daemons):
    return [daemon for daemon in daemons if daemon.poll() is not None]


def said(environment, *command, cwd=None):
    """Return what a command of Slurm says."""
    done = subprocess.run(command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, timeout=60)
    return done.stdout


def wait_for(happened, what, seconds=120):
    """Wait for something that other processes do."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, f"waited for {what}"
        time.sleep(0.1)


def free_ports():
    """Find two ports that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        return one.getsockname()[1], other.getsockname()[1]


def processes(folder):
    """Find the processes that this cluster started, by their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"SLURM_CONF={folder}/slurm.conf".encode() in (path / "environ").read_bytes().split(b"\0"):
                found.append(int(path.name))
    return found
