# syntax=docker/dockerfile:1.7
FROM python:3.12-slim
RUN --mount=type=secret,id=netrc,target=/root/.netrc,mode=0400,required=true \
    --mount=type=secret,id=index_url,env=PIP_INDEX_URL \
    pip install private-package
COPY --exclude=**/*.pyc --exclude=tests . /app
CMD ["python", "/app/main.py"]
