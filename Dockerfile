# The image that --launcher=gke starts: docker build -t IMAGE . && docker push IMAGE
FROM python:3.12-slim
WORKDIR /imagenet_jax
COPY requirements.txt .
RUN pip install --no-cache-dir -r requirements.txt "jax[tpu]"
COPY . .
