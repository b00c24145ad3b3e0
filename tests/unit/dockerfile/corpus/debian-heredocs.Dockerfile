FROM debian:bookworm
ARG name=world
RUN <<EOF
set -e
mkdir -p /out
echo "hello $name" > /out/shell
EOF
RUN <<-EOT cat > /out/tabs
	indented
		twice
	EOT
RUN cat <<one > /out/1 && cat <<'two' > /out/2
first $name
one
second $name
two
COPY <<a.txt <<"b.txt" /out/copied/
expanded: ${name} ${missing:-default} \$name
a.txt
literal: ${name}
b.txt
