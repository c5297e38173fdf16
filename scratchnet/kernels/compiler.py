"""How numba compiles a kernel in two thirds of the time: what a kernel is made of becomes machine code only within it.

numba compiles every function for itself: a helper, the body of each `prange` loop, the two wrappers around that. Each
is optimized and turned into machine code, then linked into its caller, where all of it is optimized and turned into
machine code again. Nobody calls the first copies. Here they end as LLVM's code, ready to be linked:

    numba:  helper -> optimize -> machine code                   kernel + helper -> optimize -> machine code
    here:   helper ----------------------------------------------^

This reaches into numba, so only those of its versions that were tried compile this way; others take their own way.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numba
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler

KNOWN = ((0, 67), (0, 68))  # versions of numba with which the tests have passed


class Part(JITCodeLibrary):
    """LLVM's code of a function that is going to be linked into a kernel, and has no address before."""

    environments: ClassVar[list[tuple[str, Any]]] = []  # of parts of kernels that are being compiled

    def _optimize_final_module(self) -> None:
        """Left to the kernel."""

    def _finalize_final_module(self) -> None:
        """Mark the code as ready to be linked; numba would emit machine code here."""
        self._finalize_dynamic_globals()
        self._verify_declare_only_symbols()
        self._finalized = True

    @classmethod
    def _unserialize(cls, codegen: Any, state: Any) -> JITCodeLibrary:
        """A kernel that the one being compiled calls, from the cache: that is machine code, and no part of another."""
        codegen._library_class = JITCodeLibrary
        try:
            return JITCodeLibrary._unserialize(codegen, state)
        finally:
            codegen._library_class = cls

    def get_pointer_to_function(self, name: str) -> int:
        """Return 0, by which numba means a function without an address."""
        self._ensure_finalized()
        return 0

    @property
    def codegen(self) -> Any:
        """Itself, for all that numba asks of it is set_env."""
        return self

    def set_env(self, name: str, environment: Any) -> None:
        """Keep a function's environment for later: the pointer to it has no place in memory before the kernel has."""
        self.environments.append((name, environment))


class Whole(Compiler):
    """numba's compiler, for a kernel: all that is compiled meanwhile is a Part of it, but for kernels that it calls.

    numba holds its lock all the while, so no function of another thread gets in between.
    """

    def _compile_core(self) -> Any:
        codegen = self.state.targetctx.codegen()
        library = self.state.library = JITCodeLibrary(codegen, self.state.func_id.func_qualname)
        library.enable_object_caching()
        around, first = codegen._library_class, len(Part.environments)
        codegen._library_class = Part
        try:
            result = super()._compile_core()
            library._ensure_finalized()
            for name, environment in Part.environments[first:]:
                if codegen._engine.is_symbol_defined(name):
                    codegen.set_env(name, environment)
        finally:
            codegen._library_class = around
            del Part.environments[first:]
        return result


COMPILER: type[Compiler] = Whole if numba.version_info[:2] in KNOWN else Compiler
