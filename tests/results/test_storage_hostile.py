"""Files that anyone may have made: each is refused, quickly, in little memory, and does nothing."""

import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

import bayes_moe as bm
from tests.support.fits import fake_fit

HUGE = 10**9
COMMAND = "np.f2py.os.system('touch pwned')"


# --- changes of the file --------------------------------------------------------------------------


def external_link(file):
    file["posterior/other"] = h5py.ExternalLink("other.nc", "/posterior")


def soft_link(file):
    file["posterior/other"] = h5py.SoftLink("/posterior/sigma")


def soft_circle(file):
    file["one"], file["two"] = h5py.SoftLink("/two"), h5py.SoftLink("/one")


def circle_of_groups(file):
    file["posterior/again"] = file["posterior"]


def second_name(file):
    file["posterior/again"] = file["posterior/sigma"]


def virtual(file):
    layout = h5py.VirtualLayout((10,), "f8")
    layout[:] = h5py.VirtualSource("other.nc", "x", (10,))
    file.create_virtual_dataset("posterior/other", layout)


def external_storage(file):
    file.create_dataset("posterior/other", (10,), "f8", external=[("/etc/passwd", 0, 80)])


def dataset(**settings):
    return lambda file: file.create_dataset("posterior/other", **settings)


def bomb(file):
    file.create_dataset("posterior/other", data=np.zeros(10**6), compression="gzip", chunks=True)


def many_chunks(file):
    file.create_dataset("posterior/other", data=np.zeros(3000, "i1"), chunks=(1,))


def named_type(file):
    file["posterior/type"] = np.dtype("f8")


def one_text_for_all(file):
    """Thousand strings whose references all lead to the longest."""
    values = ["x" * 10**5] + ["y"] * 3000
    file.create_dataset("posterior/other", data=values, dtype=h5py.string_dtype())
    start = file["posterior/other"].id.get_offset()
    file.flush()
    path = Path(file.filename)
    file.close()
    content = bytearray(path.read_bytes())
    content[start : start + 16 * 3001] = content[start : start + 16] * 3001
    path.write_bytes(content)


def many(count, make):
    def change(file):
        for j in range(count):
            make(file, j)

    return change


def variable(file, j):
    space = h5py.h5s.create(h5py.h5s.SCALAR)
    h5py.h5d.create(file["posterior"].id, b"v%d" % j, h5py.h5t.NATIVE_DOUBLE, space)


def deep_groups(file):
    group = file
    for _ in range(30):
        group = group.create_group("in")


def attribute(value, name="a", where="posterior", **settings):
    def change(file):
        file[where].attrs.pop(name, None)
        file[where].attrs.create(name, value, **settings)

    return change


def reference_attribute(file):
    file["posterior"].attrs["a"] = file["posterior/sigma"].ref


def replaced(where, value):
    def change(file):
        shape = file[where]
        dims = [d[0] for d in shape.dims]
        attributes = {k: v for k, v in shape.attrs.items() if k.startswith("_Netcdf4")}
        del file[where]
        new = file.create_dataset(where, data=value)
        for k, v in attributes.items():
            new.attrs[k] = v
        for d, scale in zip(new.dims, dims, strict=False):
            d.attach_scale(scale)

    return change


FILES = {
    "external link": (external_link, "is a link to another place or file"),
    "soft link": (soft_link, "is a link to another place or file"),
    "circle of soft links": (soft_circle, "is a link to another place or file"),
    "circle of groups": (circle_of_groups, "is a second name of another part"),
    "second name": (second_name, "is a second name of another part"),
    "virtual": (virtual, "is a view of other variables or files"),
    "external storage": (external_storage, "are in another file"),
    "100 GB in chunks": (dataset(shape=(10**5, 125000), dtype="f8", chunks=True), "declare"),
    "100 GB in one piece": (dataset(shape=(10**5, 125000), dtype="f8"), "declare"),
    "8 EB": (dataset(shape=(10**9, 10**9), dtype="f8", chunks=(1, 1)), "declare"),
    "huge text": (dataset(shape=(10**10,), dtype=h5py.string_dtype()), "declare"),
    "compressed": (bomb, "compressed or filtered"),
    "lzf": (dataset(data=np.zeros(9), compression="lzf"), "compressed or filtered"),
    "scale offset": (dataset(data=np.zeros(9, int), scaleoffset=0), "compressed or filtered"),
    "many chunks": (many_chunks, "has 3000 chunks"),
    "long chunk": (dataset(shape=(1,), dtype="f8", chunks=(10**8,), maxshape=(None,)), "a chunk"),
    "references": (dataset(shape=(3,), dtype=h5py.ref_dtype), "neither numbers nor text"),
    "regions": (dataset(shape=(3,), dtype=h5py.regionref_dtype), "neither numbers nor text"),
    "records": (dataset(shape=(3,), dtype=[("a", "f8")]), "neither numbers nor text"),
    "opaque": (dataset(shape=(3,), dtype="V8"), "neither numbers nor text"),
    "lists": (dataset(shape=(3,), dtype=h5py.vlen_dtype("f8")), "neither numbers nor text"),
    "enumeration": (dataset(shape=(3,), dtype="bool"), "neither numbers nor text"),
    "long double": (dataset(shape=(3,), dtype="g"), "neither numbers nor text"),
    "named type": (named_type, "is neither a group nor a variable"),
    "one text for all": (one_text_for_all, "the text up to '/posterior/other' is longer"),
    "text in chunks": (
        dataset(data=["a"] * 9, dtype=h5py.string_dtype(), chunks=(3,)),
        "not stored in one piece",
    ),
    "many groups": (many(400, lambda f, j: f.create_group(f"g{j}")), "more than 300 groups"),
    "deep groups": (deep_groups, "within each other"),
    "many variables": (
        many(5001, variable),
        "more than 5000 variables",
    ),
    "many attributes": (many(300, lambda f, j: f.attrs.create(f"a{j}", 1)), "attributes"),
    "record attribute": (attribute(np.zeros(3, [("a", "f8")])), "neither numbers nor text"),
    "reference attribute": (reference_attribute, "neither numbers"),
    "many texts": (attribute(["a"] * 2000, dtype=h5py.string_dtype()), "has 2000 texts"),
    "many dimensions": (attribute(np.zeros(99), "DIMENSION_LIST", "posterior"), "more than 16"),
    "attributes are no JSON": (attribute("{", "bayes_moe_attributes"), "cannot be read"),
    "attributes are a list": (attribute("[1]", "bayes_moe_attributes"), "cannot be read"),
    "scale is text": (attribute("x", "scale_factor", "posterior/sigma"), "cannot be read"),
    "no such date": (attribute("days since x", "units", "posterior/sigma"), "cannot be read"),
    "date of draws": (attribute("days since 2000-01-01", "units", "posterior/sigma"), "no numbers"),
    "text draws": (replaced("posterior/sigma", "x"), "has no numbers"),
    "one draw of a number": (replaced("posterior/sigma", 1.0), "has the dimensions"),
    "sigma is an axis short": (replaced("posterior/sigma", np.ones((2, 4))), "has the dimensions"),
    "another kind": (attribute("x", "kind", "/"), "is no kind of a fit"),
    "a mode without figures": (attribute("mode", "kind", "/"), "there is no group 'fit'"),
    "description is a number": (attribute(5, "bayes_moe", "/"), "not a fit saved by bayes_moe"),
    "description is a list": (attribute("[]", "bayes_moe", "/"), "not a fit saved by bayes_moe"),
}


# --- changes of the description -------------------------------------------------------------------


def put(value, *path):
    def change(header):
        for step in path[:-1]:
            header = header[step]
        header[path[-1]] = value

    return change


def formula(text):
    """Change of all experts' formula."""

    def change(header):
        for expert in header["spec"]["experts"]:
            expert["formula"] = text

    return change


def predictor(**settings):
    return put({"mu": settings}, "spec", "experts", 0, "predictor")


GATE, EXPERT = ("spec", "gate"), ("spec", "experts", 0)
RAW = {
    "deep lists": "[" * 10**5 + "]" * 10**5,
    "deep mappings": '{"a":' * 200 + "1" + "}" * 200,
    "NaN": "NaN",
    "infinity": "-Infinity",
    "overflow": "1e999",
    "huge integer": "9" * 5000,
    "long integer": "9" * 100,
    "name twice": '{"a": 1, "a": 2}',
}
"""JSON texts in the place of the version of the package."""
HEADERS = {
    "gate by path": (put("os:system", *GATE, "kind"), "Unknown gate 'os:system'"),
    "gate is a list": (put([], *GATE, "kind"), "Unknown gate"),
    "no gate": (put(None, *GATE), "`gate` cannot be None"),
    "setting of a gate": (put(1, *GATE, "__class__"), "description of Softmax: Unknown name"),
    "temperature": (put(0, *GATE, "temperature"), "`temperature` must be a positive number"),
    "wide attention": (put({"kind": "attention", "size": HUGE}, *GATE), "`size` must be at most"),
    "many heads": (put({"kind": "attention", "heads": HUGE}, *GATE), "`heads` must be at most"),
    "huge tree": (
        put({"kind": "tree", "branching": [HUGE, HUGE]}, *GATE),
        "A tree has at most 1000 leaves",
    ),
    "long tree": (
        put({"kind": "tree", "tree": list(range(50000))}, *GATE),
        "A tree has at most 1000 leaves",
    ),
    "family by path": (put("os:system", *EXPERT, "family"), "Unknown family 'os:system'"),
    "unknown parameter": (put("~ x", *EXPERT, "tau"), "Unknown parameter"),
    "experts are a text": (put("abc", "spec", "experts"), "`experts` cannot be 'abc'"),
    "many experts": (put([{}] * 20000, "spec", "experts"), "must be at most 1000"),
    "predictor by path": (predictor(kind="builtins:eval"), "Unknown predictor"),
    "predictor without kind": (put({"mu": {"m": 3}}, *EXPERT, "predictor"), "needs its `kind`"),
    "HSGP": (predictor(kind="hsgp", m=HUGE), "`m` must be at most"),
    "spline": (predictor(kind="spline", df=HUGE), "`df` must be at most"),
    "Fourier": (predictor(kind="fourier", order=HUGE), "`order` must be at most"),
    "wide network": (predictor(kind="mlp", hidden=[HUGE]), "`hidden` must be at most"),
    "deep network": (predictor(kind="mlp", hidden=[1] * 10**5), "number of hidden layers"),
    "deep soft tree": (predictor(kind="softtree", depth=HUGE), "`depth` must be at most"),
    "many trees": (predictor(kind="bart", trees=HUGE), "`trees` must be at most"),
    "setting of a predictor": (predictor(kind="hsgp", n=3), "description of HSGP: Unknown name"),
    "prior by path": (
        put({"sigma": {"distribution": "os:system"}}, "spec", "priors"),
        "Unknown prior distribution",
    ),
    "prior is a list": (put({"sigma": []}, "spec", "priors"), "cannot be"),
    "unknown part": (put(1, "spec", "code"), "The description: Unknown name 'code'"),
    "center": (put("yes", "spec", "center"), "`center` must be True or False"),
    "time zone": (
        put("datetime64[ns, dateutil//etc/passwd]", "design", "columns", 0, "dtype"),
        "which no design has",
    ),
    "huge type": (put("V4000000000", "design", "columns", 0, "dtype"), "which no design has"),
    "categories": (put([[1]], "design", "columns", 1, "categories"), "neither all text nor all"),
    "order": (put("yes", "design", "columns", 1, "ordered"), "neither true nor false"),
    "dropped rows": (put(10**20, "design", "n_dropped"), "`n_dropped` must be at most"),
    "group of rows": (put("/etc", "design", "group"), "cannot hold the fitted rows"),
    "long spline": (formula("y ~ bs(x, df=900)"), "more columns than the 3"),
    "many splines": (
        formula("y ~ " + " + ".join(f"bs(x, df={1000 - j})" for j in range(500))),
        "more columns than the 3",
    ),
    "many products": (
        formula(f"y ~ ({' + '.join(f'C(x + {j})' for j in range(12))})**3"),
        "more columns than the 3",
    ),
    "response of many columns": (formula("poly(y, 20) ~ x + g"), "more columns than the 1"),
    "many columns": (
        put(["x"] * 50000, "design", "terms", "mu"),
        "24 rows and 50002 columns, which take",
    ),
    "columns are a number": (put(9, "design", "terms"), "columns of the formulas are not listed"),
    "columns of another formula": (put(["x"], "design", "terms", "nu"), "other columns here"),
    "columns are a text": (put("x", "design", "terms", "mu"), "more columns than the 0"),
    "row labels are a number": (put(9, "design", "row_labels"), "row labels are not listed"),
    "no row labels": (put([], "design", "row_labels"), "and 0 levels of row labels"),
    "row labels of levels that are not there": (
        put([{"column": str(j), "dtype": "str"} for j in range(9)], "design", "row_labels"),
        "and 9 levels of row labels",
    ),
    "type of row labels": (
        put("datetime64[ns, dateutil//etc/passwd]", "design", "row_labels", 0, "dtype"),
        "which no design has",
    ),
    "categories of row labels": (
        put({"column": "0", "dtype": "category", "categories": [[]]}, "design", "row_labels", 0),
        "neither all text nor all",
    ),
    "part of the design": (put(1, "design", "hook"), "The stored design: Unknown name 'hook'"),
}
FORMULAS = {
    "formula": put(f"y ~ I({COMMAND} + x**2)", *EXPERT, "formula"),
    "response": put(f"I({COMMAND} + y) ~ x + g", *EXPERT, "formula"),
    "gate's formula": put(f"~ I({COMMAND} + x**2)", *GATE, "formula"),
    "parameter's formula": put(f"~ I({COMMAND} + x**2)", *EXPERT, "sigma"),
    "trials": lambda header: header["spec"]["experts"][0].update(
        family="binomial", trials=f"I({COMMAND} + x)"
    ),
    "Gaussian gate's": put({"kind": "gaussian", "formula": f"~ I({COMMAND} + x)"}, *GATE),
    "tree's": put({"kind": "tree", "tree": [0, 1], "formula": f"~ I({COMMAND} + x)"}, *GATE),
    "split's": put({"kind": "tree", "tree": [0, 1], "formulas": {"root": f"~ {COMMAND}"}}, *GATE),
    "file": put("y ~ x + np.fromfile('/etc/passwd')", *EXPERT, "formula"),
    "pickle": put("y ~ x + np.load('x.npy', allow_pickle=True)", *EXPERT, "formula"),
    "written file": put("y ~ x + I(np.save('pwned', x))", *EXPERT, "formula"),
    "memory": put("y ~ x + I(np.zeros(10**12)[0] + x)", *EXPERT, "formula"),
}


# --- loading in a process that watches ------------------------------------------------------------

WATCH = """
import json, resource, sys, time, warnings
import bayes_moe as bm
from bayes_moe import predictors, gates

folder, names = sys.argv[1], json.load(open(sys.argv[2]))
bm.load(f"{folder}/good.nc")
seen, now = [], [None]
ALLOWED = (sys.prefix, sys.base_prefix, "/proc", "/usr/share/zoneinfo", bm.__path__[0])

def watch(event, arguments):
    if now[0] is None:
        return
    if event == "open":
        path = str(arguments[0])
        writes = "w" in str(arguments[1]) or "a" in str(arguments[1])
        if path != now[0] and (writes or not path.startswith(ALLOWED)):
            seen.append([event, path])
    elif event.split(".")[0] in ("subprocess", "socket", "shutil", "pty", "ftplib", "urllib"):
        seen.append([event, str(arguments)[:80]])
    elif event in ("os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn",
                   "os.putenv", "os.unsetenv", "os.remove", "os.rename", "os.mkdir", "os.kill",
                   "os.link", "os.symlink", "os.chmod", "pickle.find_class"):
        seen.append([event, str(arguments)[:80]])

sys.addaudithook(watch)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**29,) * 2)
results = {}
for name, path in names.items():
    seen.clear()
    start = time.process_time()
    now[0] = path
    try:
        bm.load(path)
        outcome = ["none", ""]
    except BaseException as error:
        outcome = [type(error).__name__, str(error)]
    now[0] = None
    results[name] = [*outcome, time.process_time() - start, list(seen)]
print(json.dumps(results))
"""


def rewritten(path, change):
    """Change the description of a saved fit; a text is put in as it is."""
    with h5py.File(path, "r+") as file:
        header = json.loads(file.attrs["bayes_moe"])
        if isinstance(change, str):
            header["package_version"] = "@"
            text = json.dumps(header).replace('"@"', change)
        else:
            change(header)
            text = json.dumps(header)
        del file.attrs["bayes_moe"]
        file.attrs["bayes_moe"] = text


CASES = (
    {name: ("file", *case) for name, case in FILES.items()}
    | {f"JSON: {name}": ("header", text, "not a fit saved by") for name, text in RAW.items()}
    | {f"description: {name}": ("header", *case) for name, case in HEADERS.items()}
    | {f"formula: {name}": ("header", change, "fit") for name, change in FORMULAS.items()}
)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What loading each file did, in one process."""
    folder = tmp_path_factory.mktemp("hostile")
    rng = np.random.default_rng(0)
    n = 24
    table = pd.DataFrame(
        {"x": rng.normal(size=n), "g": pd.Categorical(rng.permutation([*"ab"] * 12))}
    )
    table["y"] = rng.normal(size=n)
    table.index = [f"row {j}" for j in range(n)]
    parameters = {
        "gate_coef": np.zeros((2, 2)),
        "mu_coef": rng.normal(size=(2, 3)),
        "sigma": [0.5, 1.5],
    }
    spec = bm.mixture_of_experts("y ~ x + g", "~ x")
    good = bm.save(fake_fit(spec, table, parameters, draws=4), folder / "good.nc")
    content = good.read_bytes()
    assert len(content) < 200_000
    paths = {}
    for j, (name, (kind, change, _)) in enumerate(CASES.items()):
        path = folder / f"{j}.nc"
        path.write_bytes(content)
        if kind == "file":
            with h5py.File(path, "r+") as file:
                change(file)
        else:
            rewritten(path, change)
        paths[name] = str(path)
    listed = folder / "paths.json"
    listed.write_text(json.dumps(paths))
    run = subprocess.run(
        [sys.executable, "-c", WATCH, str(folder), str(listed)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    made = {p.name for p in folder.iterdir()} - {f"{j}.nc" for j in range(len(CASES))}
    return json.loads(run.stdout.splitlines()[-1]), made - {"good.nc", "paths.json"}


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_file_is_refused_without_any_effect(outcomes, name):
    error, message, seconds, seen = outcomes[0][name]
    assert (error, seen) == ("FitFileError", []), message
    assert ".nc'" in message
    assert CASES[name][2] in message
    assert len(message) < 2000
    assert seconds < 5


def test_no_hostile_file_leaves_a_file(outcomes):
    assert outcomes[1] == set()
