# Runs under any user id and without a home directory:
#     docker build -t cnn-jax .
#     docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD:/work" --volume cnn-jax:/cache \
#         cnn-jax --workdir=runs/digits
# A GPU: --build-arg EXTRAS=cuda12,plots,tfds,weights, and `docker run --gpus all`. Tried without
# Docker: these steps in a copy of Python 3.11, then train, evaluate, predict, trust, page and report
# as user 12345, who is in no list of users and may write in /work and /cache alone.
FROM python:3.11-slim
ARG EXTRAS=onednn,plots,tfds,weights
COPY . /src
RUN pip install --no-cache-dir --constraint /src/constraints.txt "/src[$EXTRAS]" && rm -r /src \
    && mkdir --mode=1777 /cache /work
ENV HOME=/cache CNN_JAX_CACHE=/cache/cnn_jax
VOLUME /cache
WORKDIR /work
ENTRYPOINT ["cnn-jax"]
