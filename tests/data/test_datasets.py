"""Data sets that ship with the package are what their citation says, and yours to change."""

import hashlib
from importlib import resources

import numpy as np
import pytest

import bayes_moe as bm
from bayes_moe.core.errors import DataError
from bayes_moe.data.datasets import SOURCES

OPEN_ENDS = {"income": {"upper"}}
"""Columns with missing values, which say that a limit is not known."""


@pytest.mark.parametrize("name", SOURCES)
def test_every_data_set_loads_and_names_its_source(name):
    table = bm.load_dataset(name)
    source = table.attrs["source"]
    assert f"{len(table)} rows" in source
    assert all(column in source for column in table)
    assert {*table.columns[table.isna().any()]} == OPEN_ENDS.get(name, set())
    assert f'``"{name}"``' in bm.load_dataset.__doc__


def test_tone_is_cohens_experiment():
    tone = bm.load_dataset("tone")
    assert tone.shape == (150, 2)
    assert "Cohen, E. A. (1980)" in tone.attrs["source"]
    assert tone["stretchratio"].agg(["min", "max"]).tolist() == [1.35, 3.0]
    assert tone.sum().round(3).tolist() == [324.78, 310.832]
    # Two ways of tuning: to the octave, or to the stretched overtone.
    octave = (tone["tuned"] - 2).abs() < 0.1
    overtone = (tone["tuned"] - tone["stretchratio"]).abs() < 0.1
    assert (octave | overtone).mean() > 0.9
    assert (octave & ~overtone).sum() > 50


def test_mcycle_is_silvermans_crash():
    crash = bm.load_dataset("mcycle")
    assert crash.shape == (133, 2)
    assert "Silverman, B. W. (1985)" in crash.attrs["source"]
    assert "Schmidt, G., Mattern, R., & Schueler, F. (1981)" in crash.attrs["source"]
    assert crash.agg(["min", "max"]).to_numpy().tolist() == [[2.4, -134.0], [57.6, 75.0]]
    # Repeated measurements of a few instants; still before the impact is felt.
    assert crash["times"].is_monotonic_increasing
    assert crash["times"].nunique() == 94
    assert crash.loc[crash["times"] < 13, "accel"].abs().max() < 6
    assert crash.loc[crash["times"] > 14, "accel"].std() > 45


def test_lidar_is_sigrists_mercury():
    lidar = bm.load_dataset("lidar")
    assert lidar.shape == (221, 2)
    assert "Sigrist, M. W. (1994)" in lidar.attrs["source"]
    assert "Ruppert, D., Wand, M. P., & Carroll, R. J. (2003)" in lidar.attrs["source"]
    assert lidar["range"].agg(["min", "max"]).tolist() == [390, 720]
    assert lidar["range"].is_monotonic_increasing
    # Flat and quiet at first, then lower and noisier.
    near, far = lidar["range"] < 550, lidar["range"] > 620
    assert lidar.loc[near, "logratio"].std() < 0.035
    assert lidar.loc[far, "logratio"].std() > 0.1
    assert lidar.loc[far, "logratio"].mean() < -0.5


def test_vowel_has_the_published_split_by_speaker():
    vowel = bm.load_dataset("vowel")
    assert vowel.shape == (990, 13)
    assert vowel["part"].value_counts().to_dict() == {"train": 528, "test": 462}
    assert vowel.loc[vowel["part"] == "train", "speaker"].max() == 7
    assert vowel.loc[vowel["part"] == "test", "speaker"].min() == 8
    counts = vowel.groupby(["speaker", "vowel"]).size()
    assert len(counts) == 15 * 11
    assert set(counts) == {6}
    first = [-3.639, 0.418, -0.670, 1.779, -0.168, 1.627, -0.388, 0.529, -0.874, -0.814]
    assert vowel.loc[0, [f"x{j}" for j in range(1, 11)]].tolist() == first


def test_medical_is_of_adults_a_fifth_of_whom_had_no_expenses():
    medical = bm.load_dataset("medical")
    assert medical.shape == (3316, 9)
    assert medical["age"].min() >= 18
    assert sorted(medical["coinsurance"].unique()) == [0, 25, 50, 95]
    assert (medical["expenses"] == 0).sum() == 670
    assert medical.loc[medical["expenses"] > 0, "expenses"].min() == 0.59
    # Most of those who pay nothing themselves have expenses, fewest of those who pay most.
    used = (medical["expenses"] > 0).groupby(medical["coinsurance"]).mean()
    assert used.idxmax() == 0
    assert used.idxmin() == 95


def test_rain_is_of_three_days_that_do_not_overlap():
    rain = bm.load_dataset("rain")
    assert rain.shape == (1661, 4)
    days = rain["date"].astype("datetime64[s]").diff().dropna().dt.days
    assert days.min() == 3
    assert rain["rain"].min() == 0
    assert 0.24 < (rain["rain"] == 0).mean() < 0.27
    assert rain["rain"].corr(rain["forecast_mean"]) > 0.3


def test_articles_are_overdispersed():
    articles = bm.load_dataset("articles")
    assert articles.shape == (915, 6)
    count = articles["articles"]
    assert (count == 0).sum() == 275
    assert count.max() == 19
    assert round(count.mean(), 3) == 1.693
    assert round(count.var(), 2) == 3.71
    assert articles["sex"].value_counts().to_dict() == {"man": 494, "woman": 421}


def test_attitudes_are_cells_of_respondents():
    survey = bm.load_dataset("attitudes")
    assert survey.shape == (166, 6)
    assert survey["weight"].sum() == pytest.approx(2231, abs=1e-3)
    cells = ["abortion", "gender", "importance", "education", "urban"]
    assert not survey.duplicated(cells).any()


def test_incomes_are_brackets():
    income = bm.load_dataset("income")
    assert income.shape == (155, 6)
    assert income["couples"].sum() == 9395
    assert income["weight"].sum() == pytest.approx(9395, abs=1e-2)
    assert not (income["upper"] <= income["lower"]).any()
    assert income.loc[income["upper"].isna(), "lower"].unique().tolist() == [50, 100]


def test_kidney_has_two_times_a_patient():
    kidney = bm.load_dataset("kidney")
    assert kidney.shape == (76, 6)
    assert (kidney.groupby("patient").size() == 2).all()
    assert kidney["status"].sum() == 58


def test_bitterness_is_randalls_experiment():
    wine = bm.load_dataset("bitterness")
    assert wine.shape == (72, 6)
    assert wine["rating"].value_counts().sort_index().tolist() == [5, 22, 26, 12, 7]
    assert wine["rating"].equals(1 + wine["score"] // 20)
    assert (wine.groupby("judge").size() == 8).all()
    assert set(wine.groupby(["temperature", "contact"]).size()) == {18}


def test_party_is_on_ordered_scales():
    party = bm.load_dataset("party")
    assert party.shape == (944, 7)
    shares = party["party"].value_counts().sort_index()
    assert shares.to_dict() == {0: 200, 1: 180, 2: 108, 3: 37, 4: 94, 5: 150, 6: 175}
    assert sorted(party["position"].unique()) == [1, 2, 3, 4, 5, 6, 7]
    assert party["party"].corr(party["position"]) > 0.5


def test_proportions_are_inside_the_unit_interval():
    reading, gasoline = bm.load_dataset("reading"), bm.load_dataset("gasoline")
    assert reading.shape == (44, 3)
    assert reading["accuracy"].between(0, 1, inclusive="neither").all()
    assert reading["dyslexia"].value_counts().to_dict() == {"no": 25, "yes": 19}
    assert gasoline.shape == (32, 6)
    assert gasoline["share"].agg(["min", "max"]).tolist() == [0.028, 0.457]
    assert gasoline.groupby("batch")[["gravity", "pressure", "temp10"]].nunique().max().max() == 1


def test_geyser_is_azzalini_and_bowmans():
    geyser = bm.load_dataset("geyser")
    assert geyser.shape == (299, 2)
    assert geyser["waiting"].agg(["min", "max"]).tolist() == [43, 108]
    # The longer an eruption, the longer until the next one.
    duration, waiting = geyser["duration"].to_numpy(), geyser["waiting"].to_numpy()
    assert np.corrcoef(duration[:-1], waiting[1:])[0, 1] > 0.8


def test_periwinkle_has_directions():
    snails = bm.load_dataset("periwinkle")
    assert snails.shape == (31, 2)
    assert snails.iloc[0].tolist() == [107, 67]
    assert snails["direction"].between(0, 360).all()


def test_betablocker_is_22_trials():
    trials = bm.load_dataset("betablocker")
    assert trials.shape == (44, 4)
    assert trials[["patients", "deaths"]].sum().tolist() == [20290, 1811]
    assert trials.groupby("center")["treatment"].nunique().tolist() == [2] * 22


@pytest.mark.parametrize(
    ("name", "checked"),
    [
        ("tone", "4cab22eee3892a5d03a649809ea90fb2592c3acbcf2afdc63e58210269aa658b"),
        ("mcycle", "1303710411a874f7fe90e588a67e3fc2f098b903b0ea96c1ab9c719dafd8d068"),
        ("lidar", "b5a3f28e88aa9f456f08d4b40848609fddfd39f393334244109a87aa70ad8baa"),
        ("vowel", "367c608e1cbc348e3087b9a17c910731ffdfe8455ca1cfc583c48f384fb776dc"),
        ("medical", "a91d6af4eedfaaa8a36c54be11ac8ab4e8f2d8904415b098d29c2167c915f15d"),
        ("rain", "8e877852d905dd4b452186da73c2b72a854959c9036b5081b80e23821979e817"),
        ("articles", "176297aacbd2d7b22b373bb2dd4a8fdf3dca74118b38c44e9c1f0b5f1d71b227"),
        ("attitudes", "824b2d487c00945d9ffaf55d57b8d5b5b187407a37856b60eb118f3312433fc6"),
        ("income", "a207efc73faaa955737a63b46237a1473b741208e8fadf2b85040b5240a16c14"),
        ("kidney", "63ca7ae05eba9b8f706d6cbf95b58861ee157d797b4c5064b03ef757ae957964"),
        ("bitterness", "99d74ba580ea0e9530880c26fd0b12b636f0738f73be17d7cd92a6fe69b143b6"),
        ("party", "4d7727326319ccb855c0feb68919da6724b1b56e00aa67ed67e5b340c0ae3230"),
        ("reading", "7b8413b94e07414e8d284d525b2a7fa1af24fa487cdd33808c10c9c957a70b32"),
        ("betablocker", "09d0bc40b2aad25412ff9074af698988dcc4afaab50b2c8b189f0559ddf4a22e"),
        ("gasoline", "9430a37852c317a8b3a412dd2c3b34bdcc8bc4bcd8720a8125f6f6c0a929c2c1"),
        ("geyser", "4693031a640fb158d288726e41df15679be01b5569e1ba2bdf153b9108e264fe"),
        ("periwinkle", "cb23072a1161717e63403e583a30c16bd4c4ffeed0827a446de8311578efd276"),
    ],
)
def test_the_file_is_the_one_that_was_checked(name, checked):
    text = (resources.files("bayes_moe") / "data" / "csv" / f"{name}.csv").read_bytes()
    digest = hashlib.sha256(text.replace(b"\r\n", b"\n")).hexdigest()
    assert digest == checked


def test_each_load_is_a_table_of_your_own():
    first = bm.load_dataset("tone")
    first["tuned"] = 0.0
    first.attrs.clear()
    again = bm.load_dataset("tone")
    assert again["tuned"].min() > 1
    assert again.attrs["source"]


@pytest.mark.parametrize("name", ["tonne", "Tone", "", None, ["tone"], "../data/tone"])
def test_unknown_data_sets(name):
    with pytest.raises(DataError, match="Unknown data set") as raised:
        bm.load_dataset(name)
    assert repr(name) in str(raised.value)
    assert ", ".join(map(repr, sorted(SOURCES))) in str(raised.value)
