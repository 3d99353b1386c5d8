"""The main job on real data: fit, check, read, predict, draw, save.

Run from a checkout with ``make quickstart``; it writes pictures and a saved fit to the folder
``quickstart_output`` (or to the folder that is the first argument).
"""

import sys
from pathlib import Path

import matplotlib as mpl

import bayes_moe as bm

mpl.use("Agg")


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)

    # 150 trials of a musician who tunes a tone; two habits are mixed (Cohen, 1980).
    tone = bm.load_dataset("tone")
    spec = bm.mixture_of_experts("tuned ~ stretchratio", gate="~ stretchratio", experts=2)

    fit = bm.fit(spec, tone, draws=1000, chains=4, random_seed=1)
    print(fit)

    print("\nCoefficients by expert, with R-hat and ESS after relabelling")
    print(bm.summary(fit).to_string())

    print("\nVerdict")
    print(bm.diagnose(fit))

    rows = {"stretchratio": [1.5, 2.0, 2.5, 3.0]}
    predictive = bm.predict(fit, rows)
    table = predictive.interval(0.9).to_series().unstack("ci_bound")
    table.insert(0, "stretchratio", rows["stretchratio"])
    table.insert(1, "mean", predictive.mean())
    print("\nPredictions for new rows, with 90 % intervals")
    print(table.round(3).to_string(index=False))

    for name, plot in {
        "experts": bm.plot_experts,
        "gate": bm.plot_gate,
        "predictive": bm.plot_predictive,
    }.items():
        plot(fit).savefig(folder / f"tone_{name}.png", dpi=150, bbox_inches="tight")
    path = bm.save(fit, folder / "tone.nc")
    assert bm.load(path).spec == spec

    print(f"\nWrote to {folder}: {', '.join(sorted(p.name for p in folder.iterdir()))}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "quickstart_output"))
