FROM debian:bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends rustc gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY <<EOF main.rs
fn main() { println!("rust"); }
EOF
RUN rustc -O -o /usr/local/bin/app main.rs

FROM debian:bookworm
COPY --from=build /usr/local/bin/app /usr/local/bin/app
CMD ["app"]
