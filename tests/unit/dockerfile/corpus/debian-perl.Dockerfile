FROM debian:bookworm
RUN ["/usr/bin/perl", "-e", "open my $f, '>', '/perl' or die; print $f \"ok\\n\""]
CMD ["perl", "-pe", "", "/perl"]
