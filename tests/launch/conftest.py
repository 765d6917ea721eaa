"""A Slurm of two nodes on this machine, from Debian's packages: started for a test, stopped by its pid files."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

CONF = """ClusterName=factory
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
SlurmctldPort={port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
JobRequeue=1
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={first} CPUs=1 RealMemory=4000 State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={second} CPUs=1 RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""
MUNGE_FILES = {
    "key-file": "munge.key",
    "socket": "munge.socket",
    "pid-file": "munged.pid",
    "log-file": "munged.log",
    "seed-file": "munged.seed",
}


def why_not() -> str:
    """Why Slurm cannot be started here; empty when it can."""
    missing = [name for name in ("slurmctld", "slurmd", "munged", "sbatch") if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} not installed (apt-get install slurm-wlm munge)"
    return "" if os.geteuid() == 0 else "the daemons need root"


def start(folder: Path, ports: list[int]) -> Path:
    """Start munge, the controller and two nodes; the configuration file, once both nodes are idle."""
    (folder / "state").mkdir(parents=True)
    conf = folder / "slurm.conf"
    host = socket.gethostname().split(".")[0]
    conf.write_text(CONF.format(host=host, folder=folder, port=ports[0], first=ports[1], second=ports[2]))
    _start_munge(folder)
    environment = {**os.environ, "SLURM_CONF": str(conf)}
    subprocess.run(["slurmctld", "-f", str(conf)], check=True, env=environment)
    for node in ("n1", "n2"):
        subprocess.run(["slurmd", "-N", node, "-f", str(conf)], check=True, env=environment)
    for _ in range(120):
        told = subprocess.run(["sinfo", "-h", "-o", "%D %t"], env=environment, capture_output=True, text=True).stdout
        if told.split() == ["2", "idle"]:
            return conf
        time.sleep(0.5)
    raise AssertionError(f"the nodes did not become idle: {told}\n{(folder / 'slurmctld.log').read_text()[-2000:]}")


def _start_munge(folder: Path) -> None:
    """A munge of our own, with its own key and socket: it needs nothing of the system's and ends with the test."""
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    options = [f"--{name}={folder / file}" for name, file in MUNGE_FILES.items()]
    # --force: pytest folders are closed to other users, and munge would rather have them open; all who ask here are root.
    subprocess.run(["munged", "--force", *options], check=True, stderr=subprocess.DEVNULL)


def stop(folder: Path) -> None:
    """Stop what `start` started, by pid file."""
    for path in folder.glob("*.pid"):
        try:
            os.kill(int(path.read_text()), signal.SIGTERM)
        except (ProcessLookupError, ValueError):
            continue
