ARG CUDA=12.4.1
ARG FLAVOR=cudnn-devel-ubuntu22.04
FROM nvidia/cuda:${CUDA}-${FLAVOR} AS build
ARG TORCH_CUDA_ARCH_LIST="7.0;7.5;8.0+PTX"
ENV TORCH_CUDA_ARCH_LIST=${TORCH_CUDA_ARCH_LIST} MAX_JOBS=4
WORKDIR /workspace
RUN --mount=type=bind,source=requirements.txt,target=/tmp/requirements.txt \
    --mount=type=cache,target=/root/.cache/pip,uid=0,gid=0 \
    python3 -m pip install -r /tmp/requirements.txt
COPY --parents csrc/**/*.cu csrc/**/*.h ./
RUN python3 setup.py bdist_wheel --dist-dir=/dist

FROM nvidia/cuda:${CUDA}-${FLAVOR/devel/runtime}
COPY --from=build /dist/*.whl /dist/
RUN python3 -m pip install /dist/*.whl
ENV LD_LIBRARY_PATH=/usr/local/nvidia/lib:${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
ENTRYPOINT ["python3", "-m", "serve"]
