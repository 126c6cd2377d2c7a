"""scikit-learn's n_jobs over a Master.

python examples/grid_search.py
"""

from __future__ import annotations

import joblib
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

from taskmaster.learners import WorkMaster
from taskmaster.learners.joblib_backend import register


def main() -> None:
    register()
    search = GridSearchCV(SVC(), {"C": [0.1, 1, 10, 100], "gamma": [0.001, 0.01, 0.1, 1]})
    with WorkMaster(None, workers=2) as master, joblib.parallel_backend("taskmaster", master=master):
        search.fit(*load_iris(return_X_y=True))
    print(f"{search.best_score_:.2f} with {search.best_params_}")


if __name__ == "__main__":
    main()
