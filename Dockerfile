# The app for a class: docker build -t playground . && docker run -p 8501:8501 -v playground-runs:/runs playground
FROM python:3.12-slim

# Where pip takes torch from; the CPU build is a tenth of the size of the others.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

RUN useradd --create-home --uid 1000 playground && install -d -o playground /app /runs
WORKDIR /app
COPY requirements.txt .
RUN pip install --no-cache-dir --extra-index-url "$TORCH_INDEX" -r requirements.txt
COPY --chown=playground . .

USER playground
ENV PLAYGROUND_RUNS=/runs PYTHONUNBUFFERED=1
VOLUME /runs
EXPOSE 8501
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://localhost:8501/_stcore/health', timeout=4)"]

# More options after the name of the image: docker run … playground --slots 4 --host class.example
ENTRYPOINT ["python", "-m", "playground", "serve", "--address", "0.0.0.0", "--port", "8501"]
