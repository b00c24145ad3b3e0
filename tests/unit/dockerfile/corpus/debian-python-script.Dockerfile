FROM debian:bookworm
RUN apt-get update && apt-get install -y --no-install-recommends python3 && rm -rf /var/lib/apt/lists/*
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
RUN <<EOF
#!/usr/bin/python3
import json, pathlib
pathlib.Path("/made.json").write_text(json.dumps({"made": True}))
EOF
RUN python3 <<EOF > /sum.txt
print(sum(range(10)))
EOF
CMD ["python3", "-c", "print(open('/made.json').read(), open('/sum.txt').read())"]
