FROM python:3.12-slim-bookworm

# Allow setting the user's ids to those of the host
ARG USER_ID=1000
ARG GROUP_ID=1000

RUN apt-get update && apt-get install --yes --quiet --no-install-recommends \
    build-essential \
    libpq-dev \
    libmariadb-dev \
    libjpeg62-turbo-dev \
    zlib1g-dev \
    libwebp-dev \
 && rm -rf /var/lib/apt/lists/*

RUN pip install "gunicorn==22.0.0"
COPY requirements.txt /
RUN pip install -r /requirements.txt
WORKDIR /app
RUN groupadd -g $GROUP_ID site && useradd -u $USER_ID -g $GROUP_ID site && chown site:site /app
COPY --chown=site:site . .
USER site
RUN python manage.py collectstatic --noinput --clear
CMD set -xe; python manage.py migrate --noinput; gunicorn site.wsgi:application
