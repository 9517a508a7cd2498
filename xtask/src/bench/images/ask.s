# A boot sector that asks and waits, 300 times, and says how long each answer took.
#
# It prints AS, reads the processor's time-stamp counter, prints K, waits for a byte on the serial port, reads the counter
# again, and prints the difference and the first reading as sixteen hexadecimal digits each. Whoever listens knows the
# counter's rate from the times of the lines.
# as --64 -o ask.o ask.s && ld -e 0x7c00 -Ttext 0x7c00 --oformat binary -o ask ask.o
.intel_syntax noprefix
.code16
.set PORT, 0x3f8
.set ROUNDS, 300
# Ticks between two questions: tens of milliseconds on any machine.
.set PAUSE, 0x8000000
start:
    cli
    cld
    xor   ax, ax
    mov   ds, ax
    mov   ss, ax
    mov   sp, 0x7c00
    # 115200 baud, 8 bits, no parity.
    mov   dx, PORT + 3
    mov   al, 0x80
    out   dx, al
    mov   dx, PORT
    mov   al, 1
    out   dx, al
    inc   dx
    xor   al, al
    out   dx, al
    mov   dx, PORT + 3
    mov   al, 3
    out   dx, al
    mov   cx, ROUNDS
next:
    mov   si, offset question
    call  print
    rdtsc
    mov   ebx, eax
    mov   edi, edx
    mov   al, 'K'
    call  put
wait:
    call  pending
    jz    wait
    rdtsc
    push  edx
    push  eax
    mov   si, offset newline
    call  print
    pop   eax
    pop   edx
    push  edx
    push  eax
    # What took so long, then when it was asked.
    sub   eax, ebx
    sbb   edx, edi
    call  hex_both
    mov   al, ' '
    call  put
    mov   edx, edi
    mov   eax, ebx
    call  hex_both
    mov   si, offset newline
    call  print
    pop   ebx
    pop   edi
pause:
    call  pending
    rdtsc
    sub   eax, ebx
    sbb   edx, edi
    cmp   eax, PAUSE
    jb    pause
    loop  next
    mov   si, offset done
    call  print
end:
    hlt
    jmp   end

# Takes a byte that has come; zero when none has.
pending:
    push  dx
    mov   dx, PORT + 5
    in    al, dx
    test  al, 1
    jz    none
    mov   dx, PORT
    in    al, dx
    or    al, 1
none:
    pop   dx
    ret

print:
    lodsb
    test  al, al
    jz    printed
    call  put
    jmp   print
printed:
    ret

put:
    push  dx
    push  ax
    mov   dx, PORT + 5
busy:
    in    al, dx
    test  al, 0x20
    jz    busy
    pop   ax
    mov   dx, PORT
    out   dx, al
    pop   dx
    ret

# edx:eax
hex_both:
    push  eax
    mov   eax, edx
    call  hex
    pop   eax
# eax
hex:
    push  cx
    mov   cx, 8
digit:
    rol   eax, 4
    push  eax
    and   al, 15
    cmp   al, 10
    jb    decimal
    add   al, 'a' - '0' - 10
decimal:
    add   al, '0'
    call  put
    pop   eax
    loop  digit
    pop   cx
    ret

question:
    .asciz "\r\nAS"
newline:
    .asciz "\r\n"
done:
    .asciz "\r\nASKED ENOUGH\r\n"
    .org  510
    .word 0xaa55
