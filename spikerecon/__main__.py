"""python -m spikerecon"""

from spikerecon.cli import main

if __name__ == "__main__":
    main(prog_name="spikerecon")
