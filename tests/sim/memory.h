/* memory.h: the simulator's own malloc(); see memory.c. */
#ifndef SLUICE_TESTS_SIM_MEMORY_H
#define SLUICE_TESTS_SIM_MEMORY_H

/* After fork(), in the child: what is allocated from here on lies in pages that the parent never touched, as writing to one of those means copying it. */
void memory_own_pages(void);

#endif
