# SPDX-License-Identifier: Apache-2.0
"""Breaks each rule of the lint tools once, in a small tree of its own.

Run by `./dev lint`, or alone: /usr/bin/python3 -m unittest discover tools/tests
"""

import pathlib
import subprocess
import sys
import tempfile
import unittest

TOOLS = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOOLS))

import check_includes  # noqa: E402
import check_tree  # noqa: E402
import junit_sum  # noqa: E402


class Tree(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name).resolve()

    def put(self, path, text):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


class Includes(Tree):
    def setUp(self):
        super().setUp()
        for header in ("protos/wire/dumpcast_wire.h", "kmod/core/dcast_sender.h",
                       "kmod/linux/dcast_net.h", "store/store.h", "store/vmcore/elf.h",
                       "relay/engine.h", "client/get.h"):
            self.put(header, "")

    def broken(self):
        checker = check_includes.Checker(self.root)
        checker.run()
        return checker.broken

    def refuses(self, path, text, rule):
        self.put(path, text)
        broken = self.broken()
        self.assertEqual(len(broken), 1, broken)
        line = 1 + text[:-1].count("\n")
        self.assertTrue(broken[0].startswith(f"{path}:{line}: "), broken)
        self.assertIn(rule, broken[0])

    def accepts(self, path, text):
        self.put(path, text)
        self.assertEqual(self.broken(), [])

    def test_client_reaches_into_the_store(self):
        self.refuses("client/a.cc", '#include <string>\n#include "store/store.h"\n',
                     "client/ knows protos/ and store/vmcore only")

    def test_client_uses_vmcore_formats_and_protos(self):
        self.accepts("client/a.cc", '#include "store/vmcore/elf.h"\n'
                     '#include "dumpcast/v1/dumps.grpc.pb.h"\n#include "get.h"\n')

    def test_client_opens_the_database(self):
        self.refuses("client/a.cc", "#include <rocksdb/db.h>\n", "has no database")

    def test_store_reaches_up_to_the_relay(self):
        self.refuses("store/a.cc", '#include "relay/engine.h"\n', "store/ knows protos/")

    def test_store_uses_its_own_vmcore(self):
        self.accepts("store/a.cc", '#include "store/vmcore/elf.h"\n#include "rocksdb/db.h"\n')

    def test_vmcore_reaches_out_to_its_store(self):
        self.refuses("store/vmcore/a.cc", '#include "store/store.h"\n', "store/vmcore knows")

    def test_vmcore_reaches_out_by_a_relative_path(self):
        self.refuses("store/vmcore/a.cc", '#include "../store.h"\n', "store/vmcore knows")

    def test_vmcore_speaks_grpc(self):
        self.refuses("store/vmcore/a.cc", "#include <grpcpp/grpcpp.h>\n", "no gRPC")

    def test_relay_looks_into_the_sender(self):
        self.refuses("relay/a.cc", '#include "kmod/core/dcast_sender.h"\n',
                     "relay/ knows store/ and protos/")

    def test_core_calls_libc(self):
        self.refuses("kmod/core/a.c", "#include <string.h>\n#include <stdio.h>\n", "freestanding")

    def test_core_uses_a_kernel_header_in_user_space(self):
        self.refuses("kmod/core/a.h", "#ifdef __KERNEL__\n#include <linux/types.h>\n#else\n"
                     "#include <linux/string.h>\n", "inside #ifdef __KERNEL__")

    def test_core_looks_at_the_kernel_side(self):
        self.refuses("kmod/core/a.c", '#include "kmod/linux/dcast_net.h"\n', "kmod/core knows")

    def test_core_sees_linux_only_under_kernel(self):
        self.accepts("kmod/core/a.h", "#ifdef __KERNEL__\n#include <linux/types.h>\n#else\n"
                     "#include <stdint.h>\n#endif\n")

    def test_send_is_user_space_on_top_of_core(self):
        self.accepts("kmod/core/send/main.cc",
                     '#include <sys/socket.h>\n#include "kmod/core/dcast_sender.h"\n')

    def test_kernel_side_uses_libc(self):
        self.refuses("kmod/linux/a.c", "#include <linux/module.h>\n#include <stdlib.h>\n",
                     "kernel headers")

    def test_wire_includes_a_part(self):
        self.refuses("protos/wire/a.h", '#include "kmod/core/dcast_sender.h"\n', "knows nobody")

    def test_proto_imports_a_stranger(self):
        self.refuses("protos/dumpcast/v1/a.proto", 'import "google/protobuf/any.proto";\n'
                     'import "store/meta.proto";\n', "protos/ knows nobody")

    def test_cmake_links_against_the_arrow(self):
        self.refuses("client/CMakeLists.txt", "target_link_libraries(dumpcast PRIVATE\n"
                     "  dumpcast_store)\n", "client/ knows")

    def test_cmake_links_along_the_arrow(self):
        self.accepts("relay/CMakeLists.txt", "target_link_libraries(dumpcast_relay_lib PUBLIC\n"
                     "  dumpcast_store dumpcast_proto dumpcast_wire)\n")

    def test_tests_know_everybody(self):
        self.accepts("tests/sim/a.cc", '#include "kmod/core/dcast_sender.h"\n'
                     '#include "relay/engine.h"\n#include "client/get.h"\n')

    def test_program_prints_file_line_and_fails(self):
        self.put("client/a.cc", '#include "relay/engine.h"\n')
        done = subprocess.run([sys.executable, str(TOOLS / "check_includes.py"), "--root",
                               str(self.root)], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertTrue(done.stdout.startswith("client/a.cc:1: "), done.stdout)


class TreeRules(Tree):
    def faults(self):
        return check_tree.check(self.root)[1]

    def test_missing_licence(self):
        self.put("relay/a.cc", "int x;\n")
        self.put("relay/README.md", "relay/ knows store/.\n")
        self.assertEqual(len(self.faults()), 1)
        self.assertIn("relay/a.cc:1: no SPDX line", self.faults()[0])

    def test_wrong_licence_for_the_folder(self):
        self.put("kmod/linux/a.c", "// SPDX-License-Identifier: Apache-2.0\n")
        self.put("kmod/linux/README.md", "It knows kmod/core.\n")
        self.assertTrue(any("wanted GPL-2.0-only" in fault for fault in self.faults()))

    def test_licence_after_the_interpreter_line(self):
        self.put("tools/a.py", "#!/usr/bin/python3\n# SPDX-License-Identifier: Apache-2.0\n")
        self.put("tools/README.md", "tools/ knows nobody.\n")
        self.assertEqual(self.faults(), [])

    def test_folder_without_readme(self):
        self.put("store/a.cc", "// SPDX-License-Identifier: Apache-2.0\n")
        self.assertIn("store: no README.md", self.faults()[0])

    def test_readme_that_does_not_say_whom_it_knows(self):
        self.put("store/README.md", "The store.\n\nIt knows protos/.\n")
        self.assertIn("does not say whom", self.faults()[0])

    def test_unfinished_note(self):
        self.put("a.py", "# SPDX-License-Identifier: Apache-2.0\n# TO" + "DO: later\n")
        self.assertIn("a.py:2: ", self.faults()[0])


class JunitSum(Tree):
    def totals(self, text, status):
        self.put("a.xml", text)
        return junit_sum.totals(self.root / "a.xml", status)

    def test_counts_each_outcome(self):
        text = ('<testsuite><testcase name="a"/><testcase name="b"><failure/></testcase>'
                '<testcase name="c"><error/></testcase><testcase name="d"><skipped/></testcase>'
                '<testcase name="e" status="run"/><testcase name="f" status="fail"/></testsuite>')
        self.assertEqual(self.totals(text, 1), (2, 3, 1))

    def test_ctest_skipped_by_the_test_itself(self):
        text = ('<testsuite><testcase name="a" status="notrun">'
                '<skipped message="SKIP_REGULAR_EXPRESSION_MATCHED"/></testcase></testsuite>')
        self.assertEqual(self.totals(text, 0), (0, 0, 1))

    def test_ctest_program_that_was_not_built(self):
        text = ('<testsuite><testcase name="a_NOT_BUILT" status="notrun">'
                '<skipped message="Unable to find executable: a"/></testcase></testsuite>')
        self.assertEqual(self.totals(text, 8), (0, 1, 0))

    def test_runner_that_died_after_passing_tests(self):
        self.assertEqual(self.totals('<testsuite><testcase name="a"/></testsuite>', 139), (1, 1, 0))

    def test_nothing_collected_is_a_failure(self):
        self.assertEqual(self.totals("<testsuite/>", 0), (0, 1, 0))

    def test_no_report_is_a_failure(self):
        self.assertEqual(junit_sum.totals(self.root / "none.xml", 0), (0, 1, 0))

    def test_torn_report_is_a_failure(self):
        self.assertEqual(self.totals("<testsuite><testcase", 0), (0, 1, 0))


if __name__ == "__main__":
    unittest.main()
