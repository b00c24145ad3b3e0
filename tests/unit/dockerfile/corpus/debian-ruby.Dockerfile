FROM debian:bookworm
RUN apt-get update && apt-get install -y --no-install-recommends ruby && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY <<EOF app.rb
puts "ruby #{RUBY_VERSION}"
EOF
CMD ["ruby", "app.rb"]
