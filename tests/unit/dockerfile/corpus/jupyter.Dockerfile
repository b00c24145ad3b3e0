# Copyright (c) Example
# A byte order mark, comments and labels
ARG OWNER=example
ARG BASE_CONTAINER=$OWNER/base-notebook
FROM $BASE_CONTAINER
LABEL maintainer="Example <notebooks@example.org>"
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
USER root
RUN apt-get update --yes && \
    apt-get install --yes --no-install-recommends \
    # for cython: https://cython.readthedocs.io
    build-essential \
    # for latex labels
    cm-super \
    dvipng && \
    apt-get clean && rm -rf /var/lib/apt/lists/*
USER ${NB_UID}
RUN fix-permissions "${CONDA_DIR}" && fix-permissions "/home/${NB_USER}"
WORKDIR "${HOME}"
