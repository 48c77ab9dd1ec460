# The image that --launcher=gke starts: docker build -t IMAGE . && docker push IMAGE
FROM python:3.12-slim
WORKDIR /imagenet_jax
COPY requirements.txt .
# Of the services that metrics go to: --build-arg PACKAGES="wandb mlflow"
ARG PACKAGES=""
RUN pip install --no-cache-dir -r requirements.txt "jax[tpu]" $PACKAGES
COPY . .
