# Images to train in; without --target it is the TPU one, which --launcher=gke starts:
#   docker build --target=gpu -t imagenet_jax .     (cpu, gpu, tpu or serve)
#   docker run --rm --gpus=all -v "$PWD/runs:/imagenet_jax/runs" imagenet_jax train --config=quickstart
# The image's user has the number 1000; let it write into the folder that is mounted, or give --user.
FROM python:3.12.11-slim-bookworm AS base
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /imagenet_jax
RUN useradd --create-home --uid 1000 trainer && mkdir runs && chown trainer runs
COPY requirements.txt .
RUN pip install -r requirements.txt
# Of the services that metrics go to: --build-arg PACKAGES="wandb mlflow"
ARG PACKAGES=""
RUN if [ -n "$PACKAGES" ]; then pip install $PACKAGES; fi
ENTRYPOINT ["python", "launch.py"]
CMD ["train"]

FROM base AS cpu
COPY . .
USER 1000

# docker run --rm -p 8000:8000 -v "$PWD/runs:/imagenet_jax/runs" IMAGE --workdir=runs/things
FROM base AS serve
COPY . .
RUN pip install ".[serve]"
USER 1000
EXPOSE 8000
ENTRYPOINT ["python", "launch.py", "serve", "--host=0.0.0.0"]
CMD ["--model=efficientnet_lite0"]

# The wheels bring CUDA; the host has the driver and NVIDIA's container toolkit.
FROM base AS gpu
RUN pip install "jax[cuda13]"
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY . .
USER 1000

FROM base AS tpu
RUN pip install "jax[tpu]"
COPY . .
USER 1000
