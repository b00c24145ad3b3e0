FROM debian:bookworm AS files
COPY <<'EOF' /xattr
#!/usr/bin/perl
# xattr get|set FILE: as setcap and getcap do, which are in a package
my ($verb, $file) = @ARGV;
my $native = `uname -m` =~ /x86_64/;
my $name = "security.capability";
my $value = pack "V5", 0x02000001, 1 << 10, 0, 0, 0;
if ($verb eq "set") {
    syscall($native ? 188 : 5, $file, $name, $value, length $value, 0) == 0 or die "$file: $!";
} else {
    syscall($native ? 191 : 8, $file, $name, $value, length $value) == length $value or die "$file: $!";
    print unpack("H*", $value), "\n";
}
EOF
RUN cp /bin/true /capable && perl /xattr set /capable && perl /xattr get /capable

FROM debian:bookworm
COPY --from=files /capable /xattr /opt/
RUN perl /opt/xattr get /opt/capable > /capabilities
EXPOSE 80
