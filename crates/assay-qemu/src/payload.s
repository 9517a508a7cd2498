# A boot sector that uses what a kernel needs early, then says so on the serial port and ends QEMU.
#
# It is kept as bytes in accel.rs; a test there assembles this file and compares:
#   as --64 -o payload.o payload.s && ld -e 0x7c00 -Ttext 0x7c00 --oformat binary -o payload payload.o
.intel_syntax noprefix
.set WORK_SUM, 0x8a400000
.code16
start:
    cli
    cld
    xor   eax, eax
    mov   ds, ax
    mov   es, ax
    mov   ss, ax
    mov   sp, 0x7c00
    # Is there a long mode?
    mov   eax, 0x80000001
    cpuid
    bt    edx, 29
    jnc   dead16
    xor   eax, eax
    # Page tables at 0x1000 to 0x3fff map the first 2 MiB onto themselves; the interrupt table is at 0x4000.
    mov   di, 0x1000
    mov   cx, 0x1000
    rep   stosd
    mov   word ptr [0x1000], 0x2003
    mov   word ptr [0x2000], 0x3003
    mov   word ptr [0x3000], 0x0083
    # Physical address extension, page tables, long mode, paging: in this order.
    lgdt  [gdt_pointer]
    mov   eax, cr4
    or    al, 0x20
    mov   cr4, eax
    mov   eax, 0x1000
    mov   cr3, eax
    mov   ecx, 0xc0000080
    rdmsr
    bts   eax, 8
    wrmsr
    mov   eax, cr0
    or    eax, 0x80000001
    mov   cr0, eax
    .byte 0xea
    .word long_mode
    .word 0x0008
dead16:
    hlt
    jmp   dead16

.code64
long_mode:
    mov   eax, 0x10
    mov   ds, eax
    mov   es, eax
    mov   ss, eax
    mov   esp, 0x7c00
    # Long mode is active when the processor says so, not when we asked.
    mov   ecx, 0xc0000080
    rdmsr
    bt    eax, 10
    jnc   dead
    # The local APIC is there and enabled.
    mov   ecx, 0x1b
    rdmsr
    bt    eax, 11
    jnc   dead
    # Interrupt 0x20 goes to `tick`.
    mov   edi, 0x4200
    mov   eax, 0x00080000
    mov   ax, offset tick
    stosd
    mov   eax, 0x00008e00
    stosd
    lidt  [idt_pointer]
    # PIC: vectors from 0x20, only the timer open.
    mov   al, 0x11
    out   0x20, al
    mov   al, 0x20
    out   0x21, al
    mov   al, 0x04
    out   0x21, al
    mov   al, 0x01
    out   0x21, al
    mov   al, 0xfe
    out   0x21, al
    mov   al, 0xff
    out   0xa1, al
    # PIT: channel 0, rate generator, about 100 Hz.
    mov   al, 0x34
    out   0x43, al
    mov   al, 0x9c
    out   0x40, al
    mov   al, 0x2e
    out   0x40, al
    xor   ebx, ebx
    rdtsc
    mov   ebp, eax
    sti
wait:
    hlt
    cmp   ebx, 5
    jb    wait
    cli
    rdtsc
    cmp   eax, ebp
    je    dead
    # Work: fill 1 MiB above the first one again and again with a sequence, and sum what is read back.
    mov   eax, 1
    xor   r8d, r8d
    mov   ecx, 0x800000
work:
    imul  eax, eax, 1664525
    add   eax, 1013904223
    mov   edx, ecx
    and   edx, 0x3ffff
    mov   [rdx * 4 + 0x100000], eax
    add   r8d, [rdx * 4 + 0x100000]
    dec   ecx
    jnz   work
    cmp   r8d, WORK_SUM
    jne   dead
    mov   esi, offset marker
say:
    lodsb
    test  al, al
    jz    done
    mov   ah, al
    mov   dx, 0x3fd
ready:
    in    al, dx
    test  al, 0x20
    jz    ready
    mov   al, ah
    mov   dx, 0x3f8
    out   dx, al
    jmp   say
done:
    # The debug-exit port ends QEMU with (0x10 << 1) | 1.
    mov   al, 0x10
    out   0xf4, al
dead:
    cli
    hlt
    jmp   dead
# The timer: count it and let the next one come.
tick:
    inc   ebx
    push  rax
    mov   al, 0x20
    out   0x20, al
    pop   rax
    iretq

.balign 8
gdt:
    .quad 0
    .quad 0x00209a0000000000
    .quad 0x0000920000000000
gdt_pointer:
    .word 23
    .long gdt
idt_pointer:
    .word 0x21 * 16 - 1
    .quad 0x4000
marker:
    .asciz "assay: payload ok\n"
.org 510
    .word 0xaa55
