#!/bin/bash
# What the document's CodeDeploy step does before deploy.sh: a build takes the place of the last one.
# usage: deliver.sh VERSION [RELEASE]
cat > "$REPOSITORY/study-pot-api.jar" <<END
"""Stands for the jar of one build: which version runs is said in here, and nowhere else."""
import os
import runpy

os.environ.update(APP_VERSION="$1", RELEASE="${2:-good}")
runpy.run_module("sample_app", run_name="__main__", alter_sys=True)
END
