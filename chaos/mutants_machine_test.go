package chaos

// Bugs that show on odd machines only: other files in the place of memory, sandboxes,
// file systems that stall, limits of memory.
func init() {
	mutants = append(mutants, []mutant{
		{"memory of any file", "TestT1AGrantedFile", []edit{{"segment_linux.go",
			"	if uint32(system.Type) != unix.TMPFS_MAGIC { //",
			"	if system.Type == 1 { //"}}},
		{"memory with holes", "TestT1AGrantedFile", []edit{{"segment_linux.go",
			"	case stat.Blocks*512 < size:\n",
			"	case stat.Blocks*512 < size && false:\n"}}},
		{"memory that its owner cannot write", "TestT1AGrantedFile", []edit{{"segment_linux.go",
			"seals&^unix.F_SEAL_EXEC != want {\n",
			"seals&want != want {\n"}}},
		{"a mapping where a huge page fits", "TestT1AMapping", []edit{{"segment_linux.go",
			"	if uintptr(base)%(2*page) == 0 {\n",
			"	if false {\n"}}},
	}...)
}
