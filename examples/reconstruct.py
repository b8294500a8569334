"""From a recording to pictures and a video, in Python: python examples/reconstruct.py RECORDING OUT.mp4"""

import sys

import spikerecon


def main(source: str, target: str) -> None:
    with spikerecon.open_recording(source) as recording:
        print(f"{recording.width}x{recording.height}, {recording.planes} planes: {recording.why}")
        gain = spikerecon.auto_gain(recording)  # one brightness for all pictures

        stir = spikerecon.Reconstructor("stir")  # or "tfp", "tfi", "tfstp"; weights=, device=, precision=, batch_size=
        frames = stir.frames(recording, range(30, 151, 40))  # centres; without them, every 20 planes

        def rates():
            for frame in frames:
                # frame.rate: float32 (height, width), spikes per plane at the instant plane `center` starts
                print(f"centre {frame.center}: {frame.rate.mean():.3f} spikes a plane on average")
                yield frame.rate

        written = spikerecon.save(target, rates(), gain=gain, fps=10)
    print(f"{target}: {written.pictures} pictures")


if __name__ == "__main__":
    main(*sys.argv[1:])
