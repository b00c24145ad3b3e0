/* A process that shares this one's memory and descriptors, and does what this one has it do, one thing at a time.
 *
 * The monitor becomes the container's first process by it: nothing is copied, neither page tables nor pages, and what
 * the interpreter knows is known on both sides. While one of the two runs the other waits for its turn, so the
 * interpreter's thread is one thread still, in whichever process it is: both have its thread-local storage, and each its
 * own stack.
 *
 *     make      begins it, and leaves it waiting
 *     call_in   has it call a function, and returns when that has returned. When the function has left ``calls``, it
 *               makes these system calls, until one fails; the last of them is execve or the like. ``call_in`` then
 *               returns when it has become the program, or has ended
 *
 * That it ends in the middle of a function is the end of this process, too: nobody knows in what state the interpreter
 * is.
 *
 * Nothing is decided here. No library and no memory but what is given: scripts/native.sh builds it.
 */

#include <asm/errno.h>
#include <asm/unistd.h>
#include <linux/futex.h>
#include <linux/sched.h>

#include "system-call.h"

enum { GONE, ITS_TURN, OUR_TURN }; /* GONE is what the kernel writes when the memory is no longer shared */
enum { CANNOT = 255 };

#define EXPORTED __attribute__((visibility("default")))

/* So that one can tell whether the machine code is of this source. */
__attribute__((used)) static const char source[] = SOURCE;

struct system_call {
    long number, arguments[6];
};

struct child { /* linux/child.py has the same */
    int turn;
    int is_busy; /* it is in a function */
    void (*function)(void);
    const struct system_call *calls;
    long count;
    long made; /* how many of them did not fail */
    long error;
};

static void wait_while(struct child *child, int turn)
{
    while (__atomic_load_n(&child->turn, __ATOMIC_ACQUIRE) == turn)
        call(__NR_futex, (long)&child->turn, FUTEX_WAIT, turn, 0, 0, 0); /* it shares memory, not a process */
}

static void hand_over(struct child *child, int turn)
{
    int was = turn == OUR_TURN ? ITS_TURN : OUR_TURN;
    /* GONE is not written over */
    if (__atomic_compare_exchange_n(&child->turn, &was, turn, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        call(__NR_futex, (long)&child->turn, FUTEX_WAKE, 1, 0, 0, 0);
}

__attribute__((used, noreturn)) static void live(struct child *child)
{
    for (;;) {
        wait_while(child, OUR_TURN);
        child->is_busy = 1;
        child->function();
        child->is_busy = 0;
        if (child->calls)
            break;
        hand_over(child, OUR_TURN);
    }
    /* Nobody is woken from here on, since a filter may not let it: the kernel does, when the memory is left. */
    for (child->made = 0; child->made < child->count; child->made++) {
        const struct system_call *next = &child->calls[child->made];
        const long *with = next->arguments;
        child->error = call(next->number, with[0], with[1], with[2], with[3], with[4], with[5]);
        if (child->error < 0)
            break;
    }
    for (;;)
        CALL(exit_group, CANNOT, 0, 0);
}

/* clone3; what is born goes on in ``live``, on the stack that the arguments name. */
EXPORTED long make(struct child *child, struct clone_args *arguments, long size)
{
    child->turn = OUR_TURN;
    child->is_busy = 0;
    child->calls = 0;
    child->made = child->error = 0;
    arguments->child_tid = (unsigned long)&child->turn;
    arguments->flags |= CLONE_VM | CLONE_FILES | CLONE_CHILD_CLEARTID;
#if defined(__x86_64__)
    register long result __asm__("rax") = __NR_clone3;
    register struct child *kept __asm__("r12") = child;
    __asm__ volatile("syscall\n test %%rax, %%rax\n jnz 1f\n xor %%ebp, %%ebp\n mov %%r12, %%rdi\n call live\n1:"
                     : "+r"(result)
                     : "r"(kept), "D"(arguments), "S"(size)
                     : "rcx", "r11", "memory");
    return result;
#elif defined(__aarch64__)
    register long number __asm__("x8") = __NR_clone3, result __asm__("x0") = (long)arguments, x1 __asm__("x1") = size;
    register struct child *kept __asm__("x19") = child;
    __asm__ volatile("svc 0\n cbnz x0, 1f\n mov x29, 0\n mov x0, x19\n bl live\n1:"
                     : "+r"(result)
                     : "r"(number), "r"(x1), "r"(kept)
                     : "x30", "memory");
    return result;
#elif defined(__riscv)
    register long number __asm__("a7") = __NR_clone3, result __asm__("a0") = (long)arguments, a1 __asm__("a1") = size;
    register struct child *kept __asm__("s1") = child;
    __asm__ volatile("ecall\n bnez a0, 1f\n mv a0, s1\n call live\n1:"
                     : "+r"(result)
                     : "r"(number), "r"(a1), "r"(kept)
                     : "ra", "memory");
    return result;
#else
    register long number __asm__("$a7") = __NR_clone3, result __asm__("$a0") = (long)arguments, a1 __asm__("$a1") = size;
    register struct child *kept __asm__("$s0") = child;
    __asm__ volatile("syscall 0\n bnez $a0, 1f\n move $a0, $s0\n bl live\n1:"
                     : "+r"(result)
                     : "r"(number), "r"(a1), "r"(kept)
                     : "$ra", "$t0", "$t1", "$t2", "$t3", "$t4", "$t5", "$t6", "$t7", "$t8", "memory");
    return result;
#endif
}

/* GONE when it has ended, or become a program. */
EXPORTED int call_in(struct child *child, void (*function)(void))
{
    child->function = function;
    hand_over(child, ITS_TURN);
    wait_while(child, ITS_TURN);
    if (child->is_busy)
        for (;;)
            CALL(exit_group, CANNOT, 0, 0);
    return child->turn;
}
