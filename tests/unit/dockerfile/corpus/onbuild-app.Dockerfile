FROM python:3.12
ONBUILD COPY requirements.txt /usr/src/app/
ONBUILD RUN pip install --no-cache-dir -r requirements.txt
ONBUILD COPY . /usr/src/app
ONBUILD RUN <<EOF
set -e
python -m compileall /usr/src/app
EOF
ONBUILD HEALTHCHECK --interval=1m CMD ["python", "-m", "app.health"]
WORKDIR /usr/src/app
