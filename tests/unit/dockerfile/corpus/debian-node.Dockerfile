FROM debian:bookworm AS base
RUN apt-get update && apt-get install -y --no-install-recommends nodejs && rm -rf /var/lib/apt/lists/*
WORKDIR /app

FROM base AS build
COPY <<EOF package.json
{"name": "app", "version": "1.0.0", "main": "dist/index.js"}
EOF
COPY <<'EOF' build.js
const fs = require("fs");
fs.mkdirSync("dist", {recursive: true});
fs.writeFileSync("dist/index.js", `console.log("built at version ${process.version.split(".")[0]}")`);
EOF
RUN node build.js

FROM base AS runtime
ENV NODE_ENV=production
COPY --from=build --chown=nobody:nogroup /app/dist ./dist
USER nobody
CMD ["node", "dist/index.js"]
