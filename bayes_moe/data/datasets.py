"""Public data sets that ship with the package, each with its source."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

from bayes_moe.core.errors import DataError, unknown

if TYPE_CHECKING:
    import pandas as pd

SOURCES = {
    "tone": (
        "Cohen, E. A. (1980). Inharmonic tone perception. PhD thesis, Stanford University. "
        "150 rows: a musician tunes an adjustable tone to the octave above a stretched "
        "fundamental. Columns: stretchratio (ratio of the overtones to the fundamental), "
        "tuned (ratio of the adjusted tone to the fundamental)."
    ),
    "mcycle": (
        "Silverman, B. W. (1985). Some aspects of the spline smoothing approach to non-parametric "
        "regression curve fitting. Journal of the Royal Statistical Society B, 47(1), 1-52; "
        "measured by Schmidt, G., Mattern, R., & Schueler, F. (1981). "
        "133 rows: the head of a test object in simulated motorcycle crashes. "
        "Columns: times (milliseconds after impact), accel (acceleration of the head, in g)."
    ),
    "lidar": (
        "Sigrist, M. W. (1994). Air monitoring by spectroscopic techniques. Wiley; as in Ruppert, "
        "D., Wand, M. P., & Carroll, R. J. (2003). Semiparametric regression. Cambridge "
        "University Press. "
        "221 rows: light of two lasers, reflected by the air; mercury absorbs that of one. "
        "Columns: range (metres that the light travelled before it was reflected back), logratio "
        "(log of the ratio of the light received from the two lasers)."
    ),
    "vowel": (
        "Deterding, D. H. (1989). Speaker normalisation for automatic speech recognition. PhD "
        "thesis, University of Cambridge; as in Hastie, T., Tibshirani, R., & Friedman, J. (2009). "
        "The elements of statistical learning. Springer. "
        "990 rows: eleven vowels of British English, each spoken six times by fifteen speakers. "
        "Columns: part (train: the 528 rows of the first eight speakers; test: the 462 rows of the "
        "others), speaker (0 to 14), vowel (the word that it was spoken in), x1, x2, x3, x4, x5, "
        "x6, x7, x8, x9, x10 (log area ratios of the vocal tract from linear prediction)."
    ),
    "medical": (
        "Deb, P., & Trivedi, P. K. (2002). The structure of demand for medical care: latent class "
        "versus two-part models. Journal of Health Economics, 21(4), 601-625; from the RAND Health "
        "Insurance Experiment of 1974 to 1982. "
        "3316 rows: the persons aged 18 or over of the 5574 in that article's sample, a year each. "
        "Columns: expenses (medical expenses in a year, dollars; zero in a fifth of the rows), "
        "coinsurance (percentage of the costs that the person pays), deductible (whether the plan "
        "has an individual deductible), health (as rated by the person), chronic (index of chronic "
        "diseases), limited (whether physically limited), age (years), sex, log_income (log of the "
        "family's income in dollars)."
    ),
    "attitudes": (
        "Canadian Election Study 2011 (Fournier, P., Cutler, F., Soroka, S., & Stolle, D.), as in "
        "Fox, J., & Weisberg, S. (2019). An R companion to applied regression. Sage. "
        "166 rows: 2231 respondents by cell. Columns: abortion (should it be banned? Yes or No), "
        "gender, importance (of religion in the respondent's life), education, urban (residence), "
        "weight (sum of the respondents' survey weights, in units of the mean weight)."
    ),
    "income": (
        "National Health Interview Survey 2009, married couples, as in Angrist, J. D., & Pischke, "
        "J.-S. (2014). Mastering 'metrics. Princeton University Press. "
        "155 rows: 9395 couples by cell. Columns: lower, upper (bracket of the family's income, "
        "thousand dollars a year; upper is missing of 'or more'), education (years, of the better "
        "educated of the two), employed (how many of the two are), couples (in the cell), weight "
        "(sum of their survey weights, in units of the mean weight)."
    ),
    "kidney": (
        "McGilchrist, C. A., & Aisbett, C. W. (1991). Regression with frailty in survival "
        "analysis. Biometrics, 47(2), 461-466. "
        "76 rows: 38 patients with portable dialysis, twice each. Columns: patient, time (days "
        "from the insertion of a catheter to an infection, or to its removal), status (1: "
        "infection; 0: removed for another reason), age (years), sex, disease (GN: glomerulo "
        "nephritis, AN: acute nephritis, PKD: polycystic kidney disease, Other)."
    ),
    "rain": (
        "Messner, J. W., Mayr, G. J., Wilks, D. S., & Zeileis, A. (2014). Extending extended "
        "logistic regression: extended versus separate versus ordered versus censored. Monthly "
        "Weather Review, 142(8), 3003-3014; observed at Innsbruck Airport, forecasts of Hamill, "
        "T. M., et al. (2013), Bulletin of the American Meteorological Society, 94(10), 1553-1565. "
        "1661 rows: rain of three days at Innsbruck, 2000 to 2013, and forecasts of it for five "
        "to eight days ahead; of the daily running sums those that do not overlap, from the first "
        "one on. "
        "Columns: date, rain (mm; zero in a quarter of the rows), forecast_mean and forecast_sd "
        "(mean and standard deviation of the square roots of eleven forecasts in mm)."
    ),
    "articles": (
        "Long, J. S. (1990). The origins of sex differences in science. Social Forces, 68, "
        "1297-1316. "
        "915 rows: doctoral students of biochemistry. Columns: articles (published in the last "
        "three years of the doctorate), sex, marital (single or married), children (number aged "
        "five or less), prestige (of the department), mentor (articles of the mentor in the same "
        "three years)."
    ),
    "bitterness": (
        "Randall, J. H. (1989). The analysis of sensory data by generalized linear model. "
        "Biometrical Journal, 31(7), 781-793. "
        "72 rows: nine judges taste wine of eight bottles. Columns: rating (of its bitterness, 1 "
        "to 5), temperature (cold or warm when the grapes were crushed), contact (of the juice "
        "with skins), bottle, judge, score (the rating before it was grouped, 0 to 100)."
    ),
    "party": (
        "American National Election Studies (1996). The 1996 National Election Study. "
        "www.electionstudies.org; in the public domain. "
        "944 rows: voters in the United States. Columns: party (0: strong Democrat, 3: "
        "independent, 6: strong Republican), position (1: extremely liberal, 7: extremely "
        "conservative), population (of the place, in thousands), news (days a week with news on "
        "television), age (years), education (1: up to eight grades, 7: doctorate), income (1: up "
        "to 2,999 dollars a year, 24: from 105,000)."
    ),
    "reading": (
        "Pammer, K., & Kevan, A. (2004). The contribution of visual sensitivity, phonological "
        "processing and non-verbal IQ to children's reading. Manuscript, Australian National "
        "University; as in Smithson, M., & Verkuilen, J. (2006). A better lemon squeezer? "
        "Psychological Methods, 11(1), 54-71. "
        "44 rows: school children. Columns: accuracy (of reading, moved into the open interval "
        "from 0 to 1), dyslexia (yes or no), iq (nonverbal, as z score)."
    ),
    "betablocker": (
        "Yusuf, S., Peto, R., Lewis, J., Collins, R., & Sleight, P. (1985). Beta blockade during "
        "and after myocardial infarction: an overview of the randomized trials. Progress in "
        "Cardiovascular Diseases, 27(5), 335-371. "
        "44 rows: the two arms of 22 trials. Columns: center (of the trial), treatment (control or "
        "treated), patients (in the arm), deaths (of these)."
    ),
    "gasoline": (
        "Prater, N. H. (1956). Estimate gasoline yields from crudes. Petroleum Refiner, 35(5), "
        "236-238. "
        "32 rows: distillations of ten crude oils. Columns: share (of the crude oil that becomes "
        "gasoline, 0 to 1), temperature (degrees Fahrenheit at which all gasoline has vaporised), "
        "batch (the crude oil), gravity (degrees API), pressure (of the vapour, pounds per square "
        "inch), temp10 (degrees Fahrenheit at which a tenth of the crude oil has vaporised)."
    ),
    "geyser": (
        "Azzalini, A., & Bowman, A. W. (1990). A look at some data on the Old Faithful geyser. "
        "Applied Statistics, 39(3), 357-365. "
        "299 rows: eruptions in the first half of August 1985, in order. Columns: waiting "
        "(minutes until this eruption), duration (of this eruption, in minutes; 2, 3 or 4 if it "
        "was recorded at night as short, medium or long)."
    ),
    "demand": (
        "Taylor, J. W. (2003). Short-term electricity demand forecasting using double seasonal "
        "exponential smoothing. Journal of the Operational Research Society, 54(8), 799-805. "
        "4032 rows: half hours from Monday, 5 June 2000, to Sunday, 27 August 2000. Columns: time "
        "(beginning of the half hour), demand (electricity in England and Wales, megawatts)."
    ),
    "sunspots": (
        "Sunspot Index Data Center, Royal Observatory of Belgium: yearly mean total sunspot "
        "number, in the series before its revision in 2015. "
        "309 rows: 1700 to 2008. Columns: year, sunspots (mean of the year's daily numbers)."
    ),
    "growth": (
        "United States Bureau of Economic Analysis, real gross domestic product, seasonally "
        "adjusted, as retrieved in 2009 from the Federal Reserve Bank of St. Louis; recessions: "
        "National Bureau of Economic Research, US business cycle expansions and contractions. "
        "202 rows: quarters from 1959 to 2009. Columns: quarter (its first day), growth (400 "
        "times the difference of logs, per cent a year), recession (1 after a peak up to the "
        "trough, as dated by the NBER)."
    ),
    "periwinkle": (
        "Fisher, N. I. (1993). Statistical analysis of circular data. Cambridge University Press, "
        "table B.20; measured by Underwood, A. J., & Chapman, M. G. "
        "31 rows: movements of small sea snails after they were put further down the shore. "
        "Columns: distance, direction (degrees)."
    ),
    "numerals": (
        "Made for this package by the rules of English and German number words; in the public "
        "domain. "
        "300 rows: whole numbers from 1 to 9999, drawn at random. Columns: number, english, german "
        "(its words, those of German apart), links (of words that mean the same, as source-target "
        "positions from 0)."
    ),
}


DATES = {"demand": ("time",), "growth": ("quarter",)}
"""Columns of dates, by the name of the data set."""


def load_dataset(name: str) -> pd.DataFrame:
    """Load one of the data sets that ship with the package.

    Parameters
    ----------
    name : str
        ``"tone"``: Cohen's (1980) tone perception experiment, 150 rows.
        ``"mcycle"``: acceleration of the head in simulated motorcycle crashes, 133 rows
        (Silverman 1985, of measurements by Schmidt, Mattern and Schueler 1981).
        ``"lidar"``: light that mercury in the air absorbs, by distance, 221 rows (Sigrist 1994;
        Ruppert, Wand and Carroll 2003).
        ``"vowel"``: eleven vowels by ten features of their sound, 528 rows of eight speakers for
        training and 462 of seven others for tests (Deterding 1989).
        ``"medical"``: a year's insured medical expenses of adults, many of them zero, 3316 rows
        (Deb and Trivedi 2002).
        ``"rain"``: rain at Innsbruck, often zero, and its forecasts, 1661 rows (Messner et al.
        2014).
        ``"articles"``: numbers of articles of doctoral students, 915 rows (Long 1990).
        ``"attitudes"``: a question of the Canadian Election Study 2011 with survey weights, 166
        cells of respondents.
        ``"income"``: brackets of couples' incomes with survey weights, 155 cells (National Health
        Interview Survey 2009).
        ``"kidney"``: days to infection of patients' catheters, twice each, 76 rows, some censored
        (McGilchrist and Aisbett 1991).
        ``"bitterness"``: ordered ratings of wine, 72 rows (Randall 1989).
        ``"party"``: party and opinions of voters on ordered scales, 944 rows (American National
        Election Studies 1996).
        ``"reading"``: accuracy of children's reading, a proportion, 44 rows (Pammer and Kevan
        2004).
        ``"betablocker"``: deaths in the arms of 22 trials, 44 rows (Yusuf et al. 1985).
        ``"gasoline"``: share of crude oil that becomes gasoline, 32 rows (Prater 1956).
        ``"geyser"``: waiting times and durations of eruptions, 299 rows (Azzalini and Bowman 1990).
        ``"demand"``: electricity demand of England and Wales by half hours, 4032 rows (Taylor
        2003).
        ``"sunspots"``: yearly numbers of sunspots, 309 rows.
        ``"growth"``: quarterly growth of real GDP in the United States, with recessions, 202 rows.
        ``"periwinkle"``: directions in which snails move, 31 rows (Fisher 1993).
        ``"numerals"``: number words in English and German with links of words, 300 rows.

    Returns
    -------
    pandas.DataFrame
        The table; ``.attrs["source"]`` cites where it comes from.

    Raises
    ------
    DataError
        If there is no data set of that name.
    """
    import pandas as pd

    if not isinstance(name, str) or name not in SOURCES:
        raise DataError(unknown("data set", name, SOURCES))
    path = resources.files("bayes_moe") / "data" / "csv" / f"{name}.csv"
    with path.open(encoding="utf-8") as handle:
        table = pd.read_csv(handle, parse_dates=list(DATES.get(name, ())))
    table.attrs["source"] = SOURCES[name]
    return table
