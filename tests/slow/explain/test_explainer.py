"""What an explanation imports, in a process of its own."""

import pytest
from helpers.processes import run

pytestmark = pytest.mark.usefixtures("one_thread")


def test_explaining_a_linear_package_loads_no_shap_and_no_lime(penguins_mk, tmp_path):
    run(
        """
        import sys, modelkit as mk
        unwanted = {"shap", "lime", "sklearn", "pandas", "matplotlib", "numba", "tqdm"}
        assert not unwanted & set(sys.modules)
        mk.Explainer
        assert not unwanted & set(sys.modules)
        row = dict(island="Biscoe", bill_length_mm=50.0, bill_depth_mm=None, flipper_length_mm=230.0,
                   body_mass_g=5500.0, sex=None, year=2008)
        other = row | dict(island="Dream", bill_depth_mm=17.0, sex="female", body_mass_g=3000.0)
        with mk.load(sys.argv[1]) as model:
            explanation = mk.Explainer(model, background=[row, other]).explain([other])
        assert explanation.method == "additive"
        assert not unwanted & set(sys.modules), unwanted & set(sys.modules)
        """,
        penguins_mk,
    )
