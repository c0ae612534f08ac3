/* The guest of `migkit record`: 4 KiB that end a firmware of 64 KiB, run from the reset vector without an operating system.
 *
 * It writes a non-zero word to its pages, a share left out, then dirties regions of RAM one word a page: at a rate, or in
 * a tight loop. The serial port carries a line when memory is ready and a line with counters every so many milliseconds:
 *
 *     READY hz              ticks per second, a tick is 16 cycles of the time stamp counter
 *     C tsc overruns wakeups writes...      the cycles, and the page writes of each region, modulo 2^32
 *
 * All numbers are hexadecimal. Parameters are in the first bytes of the image: migkit/qemu/guest.py fills them in.
 * Paging is off, so RAM ends below 4 GiB. Only the page DATA is dirtied besides the regions.
 *
 *     as --32 guest.S -o guest.o && ld -m elf_i386 -e base -Ttext 0xff000 --oformat binary guest.o -o guest.bin
 */
	.set	BASE, 0xff000
	.set	DATA, 0x1ff000		/* counters and, at its end, the stack */
	.set	STACK, DATA + 0x1000
	.set	SERIAL, 0x3f8
	.set	AT_FULL_SPEED, 0xffffffff
	.set	REGION, 32		/* bytes of a region, in the parameters and in DATA */
	.set	PIT_HZ, 1193182

	/* DATA: of the guest, then of each region */
	.set	LAST, DATA		/* 8 bytes: ticks at the last turn */
	.set	REPORT, DATA + 8	/* 8 bytes: ticks at the next report */
	.set	HZ, DATA + 16
	.set	OVERRUNS, DATA + 20
	.set	WAKEUPS, DATA + 24
	.set	ELAPSED, DATA + 28	/* ticks of this turn */
	.set	LATE, DATA + 32		/* ticks that a stall is caught up for, at most */
	.set	PERIOD, DATA + 36	/* ticks between two reports */
	.set	BUSY, DATA + 40		/* whether a region is written at full speed */
	.set	STATES, DATA + 0x100
	.set	s_random, 0
	.set	s_next, 4
	.set	s_writes, 8
	.set	s_left, 12		/* of the division: pages times ticks per second */

	.text
	.code16
	.globl	base
base:
/* Parameters, little endian, in the order of migkit/qemu/guest.py */
magic:		.ascii	"MGKT"
ram_end:	.long	0
zero_share:	.long	0		/* times 2^32 */
seed:		.long	0
report_ms:	.long	0
late_ms:	.long	0
regions:	.long	0
reserved:	.long	0
table:		.fill	8 * REGION, 1, 0
	.set	r_start, 0
	.set	r_pages, 4
	.set	r_rate, 8		/* pages per second, or AT_FULL_SPEED */
	.set	r_sequential, 12
	.set	r_delay, 16		/* turns of an empty loop after each write */
	.set	r_burst, 20		/* writes between two looks at the clock, at full speed */

entry16:
	cli
	cld
	lgdtl	%cs:(gdt_register - base)
	lidtl	%cs:(idt_register - base)
	movl	%cr0, %eax
	orb	$1, %al
	movl	%eax, %cr0
	ljmpl	$0x08, $(BASE + entry32 - base)

	.code32
entry32:
	movl	$0x10, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %fs
	movl	%eax, %gs
	movl	%eax, %ss
	movl	$STACK, %esp
	inb	$0x92, %al		/* address line 20 */
	orb	$2, %al
	andb	$0xfe, %al
	outb	%al, $0x92
	call	open_serial
	call	touch_memory
	call	clear_data
	call	measure_clock
	call	start_timer
	movl	$ready_text, %esi
	call	print
	movl	HZ, %eax
	call	print_long
	call	print_newline

	call	ticks
	movl	%eax, LAST
	movl	%edx, LAST + 4
	movl	%eax, REPORT
	movl	%edx, REPORT + 4
turn:
	call	ticks
	movl	%eax, %ecx
	movl	%edx, %ebx
	subl	LAST, %ecx
	sbbl	LAST + 4, %ebx
	movl	%eax, LAST
	movl	%edx, LAST + 4
	testl	%ebx, %ebx
	jnz	late
	cmpl	LATE, %ecx
	jbe	in_time
late:
	incl	OVERRUNS
	movl	LATE, %ecx
in_time:
	movl	%ecx, ELAPSED

	movl	$0, BUSY
	xorl	%ebp, %ebp		/* offset of the region */
	movl	regions, %ecx
	jecxz	written
next_region:
	pushl	%ecx
	movl	table + r_rate(%ebp), %eax
	movl	table + r_burst(%ebp), %ecx
	cmpl	$AT_FULL_SPEED, %eax
	jne	at_rate
	movl	$1, BUSY
	jmp	write_now
at_rate:
	mull	ELAPSED
	addl	STATES + s_left(%ebp), %eax
	adcl	$0, %edx
	divl	HZ			/* the quotient is below rate * LATE / HZ + 1 */
	movl	%edx, STATES + s_left(%ebp)
	movl	%eax, %ecx
write_now:
	call	write_pages
	popl	%ecx
	addl	$REGION, %ebp
	loop	next_region
written:
	movl	LAST, %eax
	movl	LAST + 4, %edx
	subl	REPORT, %eax
	sbbl	REPORT + 4, %edx
	jb	reported
	call	report
reported:
	cmpl	$0, BUSY
	jne	turn
	sti
1:
	hlt				/* on_timer goes on at woken */
	jmp	1b
woken:
	incl	WAKEUPS
	jmp	turn

/* Write to %ecx pages of the region at offset %ebp. */
write_pages:
	jecxz	2f
	addl	%ecx, STATES + s_writes(%ebp)
	movl	table + r_start(%ebp), %edi
	movl	table + r_pages(%ebp), %ebx
	cmpl	$0, table + r_sequential(%ebp)
	jne	in_order
	movl	STATES + s_random(%ebp), %esi
1:
	movl	%esi, %eax		/* xorshift32 */
	shll	$13, %eax
	xorl	%eax, %esi
	movl	%esi, %eax
	shrl	$17, %eax
	xorl	%eax, %esi
	movl	%esi, %eax
	shll	$5, %eax
	xorl	%eax, %esi
	movl	%esi, %eax
	mull	%ebx			/* page = random * pages / 2^32 */
	shll	$12, %edx
	incl	(%edi, %edx)
	movl	table + r_delay(%ebp), %eax
	testl	%eax, %eax
	jnz	4f
3:
	decl	%ecx
	jnz	1b
	movl	%esi, STATES + s_random(%ebp)
2:
	ret
4:
	decl	%eax
	jnz	4b
	jmp	3b

in_order:
	movl	STATES + s_next(%ebp), %esi
1:
	movl	%esi, %edx
	shll	$12, %edx
	incl	(%edi, %edx)
	incl	%esi
	cmpl	%ebx, %esi
	jb	5f
	xorl	%esi, %esi
5:
	movl	table + r_delay(%ebp), %eax
	testl	%eax, %eax
	jnz	4f
3:
	decl	%ecx
	jnz	1b
	movl	%esi, STATES + s_next(%ebp)
	ret
4:
	decl	%eax
	jnz	4b
	jmp	3b

/* A word in each page of RAM but the share that is left zero; not in 640 KiB to 1 MiB, which is not RAM. */
touch_memory:
	xorl	%edi, %edi
	xorl	%esi, %esi
1:
	cmpl	$0xa0000, %edi
	jne	2f
	movl	$0x100000, %edi
2:
	addl	zero_share, %esi
	jc	3f
	cmpl	$DATA, %edi		/* the stack is there */
	je	3f
	movl	%edi, %eax
	orl	$1, %eax
	movl	%eax, (%edi)
3:
	addl	$0x1000, %edi
	cmpl	ram_end, %edi
	jb	1b
	ret

/* Counters to 0, but not the stack; each region has a random number of its own to start with. */
clear_data:
	movl	$DATA, %edi
	movl	$(0x800 / 4), %ecx
	xorl	%eax, %eax
	rep stosl
	movl	seed, %eax
	xorl	%ebp, %ebp
1:
	movl	%eax, STATES + s_random(%ebp)
	imull	$1664525, %eax
	addl	$1013904223, %eax
	orl	$1, %eax		/* xorshift32 does not leave 0 */
	addl	$REGION, %ebp
	cmpl	$(8 * REGION), %ebp
	jb	1b
	ret

/* Ticks since reset into %edx:%eax. */
ticks:
	rdtsc
	shrdl	$4, %edx, %eax
	shrl	$4, %edx
	ret

/* Ticks per second, against about 45 ms of channel 2 of the PIT; once more if a stall let its count pass 0. */
measure_clock:
	inb	$0x61, %al
	andb	$0xfd, %al		/* no sound */
	orb	$1, %al			/* count */
	outb	%al, $0x61
	movb	$0xb0, %al		/* channel 2, both bytes, mode 0 */
	outb	%al, $0x43
	movb	$0xff, %al
	outb	%al, $0x42
	outb	%al, $0x42
	call	latch
	movl	%eax, %esi
	movl	%ebx, %edi
1:
	call	latch
	cmpl	$0x3000, %ebx
	ja	1b
	movl	%eax, %ecx
	inb	$0x61, %al
	testb	$0x20, %al		/* output of channel 2: high when the count has passed 0 */
	jnz	measure_clock
	movl	%ecx, %eax
	subl	%esi, %eax
	subl	%ebx, %edi
	movl	$PIT_HZ, %ecx
	mull	%ecx
	divl	%edi
	movl	%eax, HZ
	movl	$1000, %ecx
	mull	late_ms
	divl	%ecx
	movl	%eax, LATE
	movl	HZ, %eax
	mull	report_ms
	divl	%ecx
	movl	%eax, PERIOD
	ret

/* The count of channel 2 into %ebx, and the ticks at that time into %eax. */
latch:
	movb	$0x80, %al
	outb	%al, $0x43
	call	ticks
	pushl	%eax
	xorl	%ebx, %ebx
	inb	$0x42, %al
	movb	%al, %bl
	inb	$0x42, %al
	movb	%al, %bh
	popl	%eax
	ret

/* An interrupt a millisecond, at vector 0x20. The local APIC must pass on what the interrupt controller says. */
start_timer:
	movl	$0x1ff, 0xfee000f0	/* enabled */
	movl	$0x700, 0xfee00350	/* LINT0: from the interrupt controller, not masked */
	movb	$0x11, %al
	outb	%al, $0x20
	outb	%al, $0xa0
	movb	$0x20, %al
	outb	%al, $0x21
	movb	$0x28, %al
	outb	%al, $0xa1
	movb	$4, %al
	outb	%al, $0x21
	movb	$2, %al
	outb	%al, $0xa1
	movb	$1, %al
	outb	%al, $0x21
	outb	%al, $0xa1
	movb	$0xfe, %al
	outb	%al, $0x21
	movb	$0xff, %al
	outb	%al, $0xa1
	movb	$0x34, %al		/* channel 0, both bytes, mode 2 */
	outb	%al, $0x43
	movb	$(1193 & 0xff), %al
	outb	%al, $0x40
	movb	$(1193 >> 8), %al
	outb	%al, $0x40
	ret

/* Interrupts are on at one instruction only, so there is nothing to return to, and none of the instructions that the
   emulator of KVM lacks is needed: a host without hardware for protected mode runs this guest too. */
on_timer:
	movb	$0x20, %al
	outb	%al, $0x20
	movl	$STACK, %esp
	jmp	woken

report:
	movl	LAST, %eax		/* the next one is a period from now, not from when this one was due */
	movl	LAST + 4, %edx
	addl	PERIOD, %eax
	adcl	$0, %edx
	movl	%eax, REPORT
	movl	%edx, REPORT + 4
	movl	$counters_text, %esi
	call	print
	rdtsc
	pushl	%eax
	movl	%edx, %eax
	call	print_long
	popl	%eax
	call	print_long
	movl	OVERRUNS, %eax
	call	print_spaced
	movl	WAKEUPS, %eax
	call	print_spaced
	movl	regions, %ecx
	xorl	%ebp, %ebp
	jecxz	print_newline
1:
	pushl	%ecx
	movl	STATES + s_writes(%ebp), %eax
	call	print_spaced
	popl	%ecx
	addl	$REGION, %ebp
	loop	1b
print_newline:
	movb	$10, %al
	jmp	print_byte

print_spaced:
	pushl	%eax
	movb	$32, %al
	call	print_byte
	popl	%eax
/* %eax in hexadecimal */
print_long:
	movl	%eax, %ebx
	movl	$8, %ecx
1:
	roll	$4, %ebx
	movl	%ebx, %eax
	andl	$15, %eax
	movb	digits(%eax), %al
	call	print_byte
	loop	1b
	ret

/* The text at %esi, up to a 0 */
print:
	lodsb
	testb	%al, %al
	jz	1f
	call	print_byte
	jmp	print
1:
	ret

/* %al to the serial port, which is waited for, but not for ever. */
print_byte:
	pushl	%ecx
	pushl	%eax
	movl	$100000, %ecx
	movw	$(SERIAL + 5), %dx
1:
	inb	%dx, %al
	testb	$0x20, %al
	loopz	1b
	popl	%eax
	movw	$SERIAL, %dx
	outb	%al, %dx
	popl	%ecx
	ret

open_serial:
	movw	$(SERIAL + 1), %dx	/* no interrupts */
	xorl	%eax, %eax
	outb	%al, %dx
	movw	$(SERIAL + 3), %dx
	movb	$0x80, %al		/* 115200 bit/s, 8 bits */
	outb	%al, %dx
	movw	$SERIAL, %dx
	movb	$1, %al
	outb	%al, %dx
	movw	$(SERIAL + 1), %dx
	xorl	%eax, %eax
	outb	%al, %dx
	movw	$(SERIAL + 3), %dx
	movb	$3, %al
	outb	%al, %dx
	ret

ready_text:	.asciz	"\nREADY "
counters_text:	.asciz	"C "
digits:		.ascii	"0123456789abcdef"

	.balign	8
gdt:	/* flat, and marked as accessed: the processor cannot write that into ROM */
	.quad	0
	.quad	0x00cf9b000000ffff
	.quad	0x00cf93000000ffff
gdt_register:
	.word	gdt_register - gdt - 1
	.long	BASE + gdt - base

	.balign	8
idt:
	.fill	0x20, 8, 0
	.word	(BASE + on_timer - base) & 0xffff
	.word	0x08
	.word	0x8e00
	.word	(BASE >> 16)
idt_register:
	.word	idt_register - idt - 1
	.long	BASE + idt - base

	.org	0xff0
	.code16
	ljmpw	$(BASE >> 4), $(entry16 - base)
	.org	0x1000
