/* What there is of the engine in a container: all that its processes can see of how they came about.
 *
 *     wherry-init -WORK ARGUMENT... PROGRAM
 *
 * executes PROGRAM with the ARGUMENTs and its own environment. It is executed itself by a process that has the
 * container's root, user, capabilities, filter and streams already, so it holds nothing that the container could want.
 * WORK is the sum of what is to be done on the way, as one character counted from '0':
 *
 *   1  JOIN      goes on in a process that is forked into the pid namespace which was joined, as a child of this
 *                process's parent. Its id is written into the file that is descriptor 61.
 *   2  TERMINAL  standard input is a terminal, and becomes the program's
 *   4  REAP      stays as the init of the program: hands signals on, reaps orphans, ends as the program does
 *
 * What cannot be done is said through the pipe that is descriptor 60: an errno as an int, negative for that of the fork.
 * The pipe closes when the program is executed. No library and no memory but the stack: scripts/native.sh builds it.
 */

#include <asm/errno.h>
#include <asm/ioctls.h>
#include <asm/signal.h>
#include <asm/unistd.h>
#include <linux/fcntl.h>
#include <linux/mman.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/wait.h>

enum { JOIN = 1, TERMINAL = 2, REAP = 4, EVERYTHING = 7 };
enum { FAILURES = 60, ID = 61 }; /* descriptors */
enum { PAGE = 4096, CANNOT = 255 };

/* So that one can tell whether the machine code is of this source. */
__attribute__((used)) static const char source[] = SOURCE;

#define BIT(number) (1UL << ((number) - 1))
/* Those that say something of a process itself are not handed on. */
#define OWN                                                                                                            \
    (BIT(SIGCHLD) | BIT(SIGFPE) | BIT(SIGILL) | BIT(SIGSEGV) | BIT(SIGBUS) | BIT(SIGABRT) | BIT(SIGTRAP) |             \
     BIT(SIGSYS) | BIT(SIGTTIN) | BIT(SIGTTOU))

#if defined(__x86_64__)
__asm__(".global _start\n_start:\n mov %rsp, %rdi\n call begin\n");
#elif defined(__aarch64__)
__asm__(".global _start\n_start:\n mov x0, sp\n bl begin\n");
#elif defined(__riscv)
__asm__(".global _start\n_start:\n mv a0, sp\n call begin\n");
#elif defined(__loongarch__)
__asm__(".global _start\n_start:\n move $a0, $sp\n bl begin\n");
#endif

static long call(long number, long first, long second, long third, long fourth, long fifth, long sixth)
{
#if defined(__x86_64__)
    register long r10 __asm__("r10") = fourth, r8 __asm__("r8") = fifth, r9 __asm__("r9") = sixth;
    __asm__ volatile("syscall"
                     : "+a"(number)
                     : "D"(first), "S"(second), "d"(third), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return number;
#else
#if defined(__aarch64__)
#define REGISTER(index) "x" #index
#define NUMBER "x8"
#define TRAP "svc 0"
#elif defined(__riscv)
#define REGISTER(index) "a" #index
#define NUMBER "a7"
#define TRAP "ecall"
#else
#define REGISTER(index) "$a" #index
#define NUMBER "$a7"
#define TRAP "syscall 0"
#endif
    register long name __asm__(NUMBER) = number;
    register long a0 __asm__(REGISTER(0)) = first, a1 __asm__(REGISTER(1)) = second, a2 __asm__(REGISTER(2)) = third;
    register long a3 __asm__(REGISTER(3)) = fourth, a4 __asm__(REGISTER(4)) = fifth, a5 __asm__(REGISTER(5)) = sixth;
    __asm__ volatile(TRAP
                     : "+r"(a0)
                     : "r"(name), "r"(a1), "r"(a2), "r"(a3), "r"(a4), "r"(a5)
                     : "memory"
#if defined(__loongarch__)
                       , "$t0", "$t1", "$t2", "$t3", "$t4", "$t5", "$t6", "$t7", "$t8"
#endif
    );
    return a0;
#endif
}

#define CALL(name, first, second, third) call(__NR_##name, (long)(first), (long)(second), (long)(third), 0, 0, 0)

static void end(int code)
{
    for (;;)
        CALL(exit_group, code, 0, 0);
}

static void fail(int why)
{
    CALL(write, FAILURES, &why, sizeof why);
    end(CANNOT);
}

static void block(int how, unsigned long signals)
{
    call(__NR_rt_sigprocmask, how, (long)&signals, 0, sizeof signals, 0, 0);
}

/* The child of this process's parent goes on, born in the pid namespace that this process has joined and is not in.
 * Only the parent sees where its id is written, or the container could tell another. */
static void join(int has_terminal)
{
    long page = call(__NR_mmap, 0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, ID, 0);
    long kept = CALL(madvise, page, PAGE, MADV_DONTFORK);
    CALL(close, ID, 0, 0);
    if (kept < 0)
        fail((int)kept);
    long pid = CALL(clone, CLONE_PARENT | CLONE_PARENT_SETTID | SIGCHLD, 0, page);
    if (pid < 0)
        fail((int)pid);
    if (pid > 0)
        end(0);
    CALL(prctl, PR_SET_PDEATHSIG, SIGKILL, 0);
    CALL(setsid, 0, 0, 0);
    if (has_terminal)
        CALL(ioctl, 0, TIOCSCTTY, 0);
}

static void hand_on(int child)
{
    unsigned long signals = ~OWN | BIT(SIGCHLD);
    for (;;) {
        long number = call(__NR_rt_sigtimedwait, (long)&signals, 0, 0, sizeof signals, 0, 0);
        if (number > 0 && number != SIGCHLD)
            CALL(kill, child, number, 0);
        for (;;) {
            int status = 0;
            long pid = CALL(wait4, -1, &status, WNOHANG);
            if (pid == -ECHILD)
                end(0);
            if (pid <= 0)
                break;
            if (pid == child)
                end(status & 0x7f ? 128 + (status & 0x7f) : status >> 8 & 0xff);
        }
    }
}

/* The child of this process goes on. Its descriptors are not to be kept open by this one, and the command line is to
 * show the program's. */
static void reap(int has_terminal, char *work, char *program)
{
    block(SIG_BLOCK, ~OWN | BIT(SIGCHLD));
    int child = CALL(clone, SIGCHLD, 0, 0);
    if (child < 0)
        fail(child);
    if (child > 0) {
        for (int fd = 0; fd < 3; fd++)
            CALL(close, fd, 0, 0);
        CALL(close, FAILURES, 0, 0);
        for (*work++ = '-'; *program; program++)
            *program = 0;
        hand_on(child);
    }
    if (has_terminal) { /* the foreground is the program's, so that Ctrl-C is */
        int group = CALL(getpid, 0, 0, 0);
        CALL(setpgid, 0, 0, 0);
        block(SIG_BLOCK, BIT(SIGTTOU));
        CALL(ioctl, 0, TIOCSPGRP, &group);
    }
    block(SIG_SETMASK, 0);
}

__attribute__((used, noreturn)) static void begin(long *stack)
{
    long count = *stack;
    char **arguments = (char **)(stack + 1), **environment = arguments + count + 1;
    /* The container may execute it, too, and with whatever arguments. */
    int work = count > 3 && arguments[1][0] == '-' ? arguments[1][1] - '0' : 0;
    if (work <= 0 || work > EVERYTHING || arguments[1][2])
        end(CANNOT);
    char *program = arguments[count - 1];
    arguments[count - 1] = 0;
    CALL(prctl, PR_SET_NAME, arguments[0], 0);
    if (work & JOIN)
        join(work & TERMINAL);
    if (work & REAP)
        reap(work & TERMINAL, arguments[1] + 1, program);
    CALL(fcntl, FAILURES, F_SETFD, FD_CLOEXEC);
    fail(-CALL(execve, program, arguments + 2, environment));
    __builtin_unreachable();
}
