"""How the code of many kernels becomes one program.

Numba makes a program of every function that it compiles: it links what the function calls, optimises all of it and
writes machine code. A kernel that ten others reach through three more is optimised dozens of times, and nobody calls
the results. Here a kernel that only other kernels call is kept as it was lowered (a *part*), and what Python calls (a
*whole*) links each part once and is optimised once. The loop then takes half the time to compile, and only wholes are
kept on disk.
"""

from __future__ import annotations

import hashlib

from numba import _dynfunc
from numba.core import compiler, itanium_mangler, lowering, typed_passes
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler_machinery import register_pass


class Part(JITCodeLibrary):
    """The code of one kernel, neither linked nor optimised."""

    def __init__(self, codegen, name):
        super().__init__(codegen, name)
        self.needs = []

    def add_linking_library(self, library):
        """Note that this part calls what is in another library."""
        library._ensure_finalized()
        self.needs.append(library)

    def _optimize_functions(self, module):
        module.data_layout = self._codegen._data_layout  # what is left out here is done once to the whole

    def finalize(self):
        """Say that the part is complete."""
        self._finalize_dynamic_globals()
        self._finalized = True


class Whole(JITCodeLibrary):
    """A kernel that Python calls, with all that it needs."""

    def __init__(self, codegen, name):
        super().__init__(codegen, name)
        self.parts = {}  # in the order in which they are met

    def add_linking_library(self, library):
        """Take in another library, and of a part all that it needs."""
        if not isinstance(library, Part):
            super().add_linking_library(library)
        elif library not in self.parts:
            self.parts[library] = None
            for needed in library.needs:
                self.add_linking_library(needed)

    def finalize(self):
        """Link, optimise and write machine code."""
        # Parts come first: of a library that Numba made, only what is already called is linked.
        for part in self.parts:
            self._final_module.link_in(part._final_module, preserve=True)
        super().finalize()

    def _optimize_final_module(self):
        parts = {one.name for part in self.parts for one in part._final_module.functions if not one.is_declaration}
        for function in self._final_module.functions:
            if function.name in parts:
                function.linkage = "internal"  # so that it is dropped once it has been inlined everywhere
        super()._optimize_final_module()


def _mangled(name, types, *, abi_tags=(), uid=None):
    """The name of a function in machine code.

    Numba writes out the types of all arguments, which for our records makes 40,000 letters, in every call.
    """
    digest = hashlib.sha256(repr([str(one) for one in types]).encode()).hexdigest()[:16]
    return itanium_mangler.mangle(f"{name}.{digest}", (), abi_tags=abi_tags, uid=uid)


class _Lowering(typed_passes.BaseNativeLowering):
    library: type[JITCodeLibrary]

    @property
    def lowering_class(self):
        return lowering.Lower

    def run_pass(self, state):
        state.targetctx = state.targetctx.subtarget(mangler=_mangled)
        state.library = self.library(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        return super().run_pass(state)


@register_pass(mutates_CFG=True, analysis_only=False)
class _LoweringOfPart(_Lowering):
    _name = "lowering_of_part"
    library = Part

    def run_pass(self, state):
        state.flags.no_compile = True
        super().run_pass(state)
        lowered = state["cr"]
        described, context = lowered.fndesc, state.targetctx
        # Numba knows a compiled function by an object of this type; this one has no address.
        known_as = _dynfunc.make_function(
            described.lookup_module(), described.qualname, "", 0, lowered.env, (state.library,)
        )
        context.insert_user_function(known_as, described, [state.library])
        state["cr"] = lowered._replace(cfunc=known_as)
        return True


@register_pass(mutates_CFG=True, analysis_only=False)
class _LoweringOfWhole(_Lowering):
    _name = "lowering_of_whole"
    library = Whole


SPARED = {
    "with_lifting",
    "inline_inlinables",
    "inline_closure_likes",
    "make_function_op_code_to_jit_function",
    "literal_unroll",
    "inline_overloads",
    "nopython_rewrites",
    "dump_parfor_diagnostics",
}
"""Passes of Numba for what no kernel contains: ``with``, closures, comprehensions, sums of whole arrays."""


class _Compiler(compiler.CompilerBase):
    lowered_by: type[_Lowering]

    def define_pipelines(self):
        manager = compiler.DefaultPassBuilder.define_nopython_pipeline(self.state)
        changed = compiler.PassManager(manager.pipeline_name)
        for each, why in manager.passes:
            if each.name() in SPARED:
                continue
            changed.add_pass(self.lowered_by if each is typed_passes.NativeLowering else each, why)
        changed.finalize()
        return [changed]


class PartCompiler(_Compiler):
    """Compiles a kernel that only other kernels call."""

    lowered_by = _LoweringOfPart


class WholeCompiler(_Compiler):
    """Compiles a kernel that Python calls, or a function that is called through its address."""

    lowered_by = _LoweringOfWhole
