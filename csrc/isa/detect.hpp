// Which instruction sets this CPU and operating system run, and what a barrier of its cores costs.
#pragma once

namespace fusedrnn {

bool cpu_has_avx2();    // all of x86-64-v3: AVX2, FMA, BMI, F16C, LZCNT, MOVBE, registers saved by the system
bool cpu_has_avx512();  // all of x86-64-v4: that, and AVX-512 F BW CD DQ VL

// Why this process cannot multiply tiles of bfloat16 (AMX, and AVX512_BF16 to make them), in words; nullptr where it
// can. The first call asks the system for permission, which it gives for the process and for good: call it before
// threads use tiles. A refusal is one of the reasons.
const char* why_no_amx();

// Operations of float32 that a core does in the time that a barrier of two takes.
double barrier_flops();

// Which of them there are, in words: "AVX2 and no AVX-512".
const char* cpu_instruction_sets();

}  // namespace fusedrnn
