/* A system call, by number, on each machine that there is; CALL is for those with up to three arguments. */

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
