"""
A sweep on a Dask cluster
=========================

``coordfit.sweep`` hands groups of networks of one shape to any executor. Here two workers of a local Dask
cluster take them, and each row is told as soon as its group is done; a cluster of many machines is used in the
same way.
"""

import distributed
import matplotlib.pyplot as plt

import coordfit

depths, widths = [2, 3, 4], [16, 32, 64, 128]
cluster = distributed.LocalCluster(
    n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
)
with cluster, distributed.Client(cluster) as client:
    table = coordfit.sweep(
        coordfit.bundled_picture(),
        depth=depths,
        hidden_size=widths,
        steps=100,
        threads=1,
        executor=client.get_executor(pure=False),
        on_row=lambda row: print(f"depth {row['depth']}, width {row['hidden_size']}: {row['psnr']:.2f} dB"),
    )

found = {(row["depth"], row["hidden_size"]): row["psnr"] for row in table}
figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
shown = ax.imshow([[found[depth, width] for width in widths] for depth in depths], aspect="auto")
for (depth, width), psnr in found.items():
    colour = "black" if shown.norm(psnr) > 0.6 else "white"
    ax.text(widths.index(width), depths.index(depth), f"{psnr:.1f}", ha="center", va="center", color=colour)
ax.set_xticks(range(len(widths)), widths)
ax.set_yticks(range(len(depths)), depths)
ax.set(xlabel="units of each hidden layer", ylabel="layers", title="PSNR / dB after 100 steps")
figure.colorbar(shown, label="PSNR / dB")
plt.show()
