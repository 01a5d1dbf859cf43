"""How the scripts of this folder run programs."""

import subprocess
import sys


def run(command, **options):
    """Run a program; its complaints are shown."""
    words = [str(word) for word in command]
    done = subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False, **options)
    if done.returncode != 0:
        sys.exit(f"{' '.join(words)}: {done.stderr}")
